"""What a labelled set decides about a trained model."""
