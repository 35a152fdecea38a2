"""Documentation, and what writes its generated pages."""
