"""Shards of documents: found, checked, and read unit by unit."""

from linkner_ray.readers.shards import check_sources, count_units, read_units, unit_ranges
from linkner_ray.readers.sources import list_sources

__all__ = ["check_sources", "count_units", "list_sources", "read_units", "unit_ranges"]
