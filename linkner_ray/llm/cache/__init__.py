"""Answers that are kept, so that a question is paid for once."""
