"""Training a SpanNER on Ray Train: any number of workers, resumable, selected on dev."""
