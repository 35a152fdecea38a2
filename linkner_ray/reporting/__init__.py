"""Pages, tables and pictures: one way to make each."""
