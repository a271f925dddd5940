"""Sizes for a rate-distortion search: exact and estimated."""

from __future__ import annotations

import math

import numpy as np

from laconic.pack.file.tensors import coded_bits
from laconic.records import IntArray, IntTensor, UniformGrid


def coded_bytes(tensor: IntTensor) -> int:
    """Bytes of one tensor alone: header and symbols as the encoder writes them, whole bytes.

    In a file, tensors share one stream and learn from each other, so the sum over tensors is a close
    upper bound.
    """
    return math.ceil(coded_bits(tensor) / 8)


def measure_bits(integers: IntArray) -> float:
    """Bits that an array of integers takes in a file on a two-byte uniform grid, header included."""
    return coded_bits(IntTensor("", np.ascontiguousarray(integers, dtype=np.int32), UniformGrid(1.0)))


def estimate_bits(integers: IntArray) -> float:
    """Order-0 entropy of the array in bits, from counts alone: what a static table costs without its table.

    ``n H = n log2 n - sum_s n_s log2 n_s``.

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
