"""Shards of documents: found, checked, and read unit by unit."""

from linkner_ray.readers.shards import check_first_source, count_units, read_units, unit_ranges
from linkner_ray.readers.sources import list_sources

__all__ = ["check_first_source", "count_units", "list_sources", "read_units", "unit_ranges"]
