"""Adapting a model to corrected slices: recipes, data, loss and the training loop."""
