"""Which axes of which tensors live and die together."""
