"""A run of extraction: its plan, its pipeline on Ray Data, and what is reported of it."""
