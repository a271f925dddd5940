"""Kernels of our own: matrices that are mostly zero in compact forms, and dense ones of two bits a weight."""

from laconic.runtime.kernels.compact_forms import Compact, compact
from laconic.runtime.kernels.matrix import KernelMatrix, SparseMatrix, TwoBitMatrix
from laconic.runtime.kernels.two_bit_forms import TwoBits, fits_two_bits, two_bits

__all__ = [
    "Compact",
    "KernelMatrix",
    "SparseMatrix",
    "TwoBitMatrix",
    "TwoBits",
    "compact",
    "fits_two_bits",
    "two_bits",
]
