"""Crawl shards of every format, read into units of documents."""
