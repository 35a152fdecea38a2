"""LinkNER on Ray: named-entity recognition over web crawls, with an LLM for the uncertain spans."""

__version__ = "0.1.0"
