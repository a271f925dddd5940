"""Facts of a network at one input shape (shapes, bits, zeros, operations), for ``laconic.cost``."""
