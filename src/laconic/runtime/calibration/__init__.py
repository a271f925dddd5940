"""Activation ranges from example batches, and the rules that choose them."""
