"""Random numbers that are the same on every machine: integers of a counter, and normal quantiles of integers.

The generator is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA
2014), indexed by position: number c of a seed is a function of both, so that any part can be computed alone.
"""

from __future__ import annotations

import zlib
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from laconic.records.base import FloatArray

if TYPE_CHECKING:
    import numpy.typing as npt

    Words = npt.NDArray[np.uint64]
else:
    Words = np.ndarray

QUANTILE_BITS = 12
_GAMMA, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_QUANTILES_CRC = 0xDA22B45B


def random_words(seeds: Words, counters: Words) -> Words:
    """Number ``counters`` (from 0) of each seed: 64 bits.

    ``r = mix(seed + (counter + 1) * 0x9E3779B97F4A7C15)`` modulo 2^64; mix is SplitMix64's.

    Args:
        seeds: uint64, any shape.
        counters: uint64, a shape that broadcasts with it.

    Returns:
        uint64 of the shape that both broadcast to, at least one dimension.

    >>> [hex(r) for r in random_words(np.array([0], np.uint64), np.arange(2, dtype=np.uint64)).tolist()]
    ['0xe220a8397b1dcdaf', '0x6e789e6aa1b965f4']
    """
    x = np.atleast_1d(counters + np.uint64(1))
    x *= np.uint64(_GAMMA)
    x = x + seeds
    x ^= x >> np.uint64(30)
    x *= np.uint64(_FIRST)
    x ^= x >> np.uint64(27)
    x *= np.uint64(_SECOND)
    x ^= x >> np.uint64(31)
    return x


@cache
def normal_quantiles() -> FloatArray:
    """4096 equally likely values of a standard normal variable, rising; read-only.

    Entry k is the float32 nearest to the quantile of (k + 1/2) / 4096. No quantile lies so near to the middle
    of two float32 numbers that the last bits of a double could matter (FORMAT.md has their CRC-32).
    """
    from statistics import NormalDist

    n = 2**QUANTILE_BITS
    upper = [NormalDist().inv_cdf((k + 0.5) / n) for k in range(n // 2, n)]
    half = np.array(upper, np.float64).astype("<f4")
    table = np.concatenate([-half[::-1], half])
    if zlib.crc32(table.tobytes()) != _QUANTILES_CRC:  # pragma: no cover - a faulty logarithm
        raise ArithmeticError("this machine's logarithm is wrong: its normal quantiles are not the format's")
    table = table.astype(np.float32)
    table.setflags(write=False)
    return table
