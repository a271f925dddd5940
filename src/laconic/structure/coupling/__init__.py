"""Which units of which tensors' axes must be removed together."""
