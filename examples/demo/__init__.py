"""The demo: a world of names and pages, a small LLM that knows them, and the whole job on both."""

from pathlib import Path

OWN_LLM = Path(__file__).with_name("llm")
"""The demo's LLM as a Hugging Face folder; `train_llm` says how it is made."""
