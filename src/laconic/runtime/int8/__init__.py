"""Networks in int8: which steps run on integers, and the weights as integers."""
