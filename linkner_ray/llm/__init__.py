"""The LLM side: prompts, their reading, and backends; knows nothing of Ray."""
