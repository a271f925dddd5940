"""Exact and estimated coded sizes, for a rate-distortion search."""

from __future__ import annotations

import math

import numpy as np

from laconic.pack.file.tensors import coded_bits
from laconic.records import IntArray, IntTensor, UniformGrid


def coded_bytes(tensor: IntTensor) -> int:
    """Bytes of one tensor alone: header and symbols as the encoder writes them, whole bytes.

    In a file, tensors share one stream and models use context from earlier tensors, so the sum over tensors
    is a close upper bound.

    Args:
        tensor: Integers of any shape on a grid.

    Returns:
        Bytes, rounded up.

    >>> coded_bytes(IntTensor("w", np.zeros((500, 800), np.int32), UniformGrid(1.0)))
    10
    """
    return math.ceil(coded_bits(tensor) / 8)


def measure_bits(integers: IntArray) -> float:
    """Bits that an array of integers takes in a file on a two-byte uniform grid, header included.

    Args:
        integers: Integers in the range of int32, of any shape.

    Returns:
        Bits of header and symbols, before rounding to whole bytes.

    >>> measure_bits(np.zeros((500, 800), np.int32))
    80.0
    """
    return coded_bits(IntTensor("", np.ascontiguousarray(integers, dtype=np.int32), UniformGrid(1.0)))


def estimate_bits(integers: IntArray) -> float:
    """Order-0 entropy of the array in bits, from counts alone: what a static table costs without its table.

    ``n H = n log2 n - sum_s n_s log2 n_s``.

    Args:
        integers: Integers of any shape; n is their number, n_s how often the integer s occurs.

    Returns:
        Bits of the whole array; 0 of an empty one.

    >>> estimate_bits(np.array([0, 0, 1, 1], np.int32))
    4.0
    """
    flat = np.ascontiguousarray(integers).reshape(-1)
    if flat.size == 0:
        return 0.0
    lowest, highest = int(flat.min()), int(flat.max())
    if highest - lowest < 2**16:
        counts = np.bincount(flat.astype(np.int64) - lowest)
    else:
        counts = np.unique(flat, return_counts=True)[1]
    counts = counts[counts > 0].astype(np.float64)
    return float(flat.size * math.log2(flat.size) - (counts * np.log2(counts)).sum())
