"""Nights: estimate, extraction, comparison with the night before, publication."""
