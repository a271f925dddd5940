"""Laconic: neural networks in fewer bits."""

__version__ = "0.1.0"
