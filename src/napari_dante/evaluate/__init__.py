"""How good a mask is, and whether a new model is better."""
