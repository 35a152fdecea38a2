"""What dev decides about a pair of checkpoint and LLM: belief in answers, and whom to ask."""
