"""What a network comes to at one input shape, for ``laconic.cost``."""
