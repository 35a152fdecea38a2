"""What a run plans, promises and leaves behind; knows nothing of Ray."""
