"""The steps of the pipeline, each a callable from table to table."""
