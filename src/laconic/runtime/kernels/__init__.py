"""Kernels of our own for large matrices that are mostly zero: compact forms and their products."""

from laconic.runtime.kernels.compact import Block, Compact, compact
from laconic.runtime.kernels.matrix import SparseMatrix

__all__ = ["Block", "Compact", "SparseMatrix", "compact"]
