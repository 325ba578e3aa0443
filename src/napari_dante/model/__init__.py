"""What a model is, on disk and ready to predict."""
