"""The local model: SpanNER in plain PyTorch; knows nothing of Ray."""
