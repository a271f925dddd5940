"""Values of stored tensors in plain Python, written from FORMAT.md alone: grids and other kinds."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from statistics import NormalDist

MASK = 2**64 - 1


@dataclass
class Grid:
    """Levels, or a step, for each channel along ``axis`` (None: one channel)."""

    codebook: bool
    axis: int | None
    channels: list[list[float]]

    def reals(self, shape: Sequence[int], integers: Sequence[int]) -> list[float]:
        """The value of each integer."""
        out = []
        inner = 1 if self.axis is None else prod(shape[self.axis + 1 :])
        for e, q in enumerate(integers):
            numbers = self.channels[e // inner % len(self.channels)]
            out.append(numbers[q] if self.codebook else float32(numbers[0] * float32(q)))
        return out

    @property
    def zero(self) -> int:
        """The integer whose value is zero in all channels; -1 if there is none."""
        if not self.codebook:
            return 0
        places = {levels.index(0.0) if 0.0 in levels else -1 for levels in self.channels}
        return places.pop() if len(places) == 1 else -1


def float32(x: float) -> float:
    """The nearest float32, ties to even."""
    value: float = struct.unpack("<f", struct.pack("<f", x))[0]
    return value


def word(seed: int, counter: int) -> int:
    """The 64 random bits of a counter."""
    x = (seed + (counter + 1) * 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) & MASK
    return x ^ x >> 31


def hashed(size: int, seed: int, buckets: Sequence[float]) -> list[float]:
    """Code 0."""
    out = []
    for e in range(size):
        r = word(seed, e)
        value = buckets[(r >> 32) * len(buckets) >> 32]
        out.append(0.0 - value if r & 1 else value)
    return out


def quantiles() -> list[float]:
    """The table of 4096 normal quantiles."""
    upper = [float32(NormalDist().inv_cdf((2 * k + 1) / 8192)) for k in range(2048, 4096)]
    table = [-x for x in reversed(upper)] + upper
    assert zlib.crc32(struct.pack("<4096f", *table)) == 0xDA22B45B
    return table


def random_codes(
    shape: Sequence[int], seed: int, block: int, indices: Sequence[int], scales: Sequence[float]
) -> list[float]:
    """Code 1."""
    table, out = quantiles(), []
    row = prod(shape[1:])
    for e in range(prod(shape)):
        b, j = divmod(e, block)
        key = word(word(seed, b), indices[b])
        scale = scales[e // row] if len(scales) > 1 else scales[0]
        out.append(float32(scale * table[word(key, j) >> 52]))
    return out


@dataclass
class SharedCode:
    """Code 10: what its tensors have in common, and where the next one begins."""

    size: int
    seed: int
    bits: int
    indices: list[int]
    next: int = 0

    def weights(self) -> list[float]:
        """The weights before they are scaled."""
        key, table, out = word(self.seed, MASK), quantiles(), [0.0] * self.size
        order = sorted(range(self.size), key=lambda e: (word(key, e), e))
        blocks = len(self.indices)
        for b, index in enumerate(self.indices):
            own = order[-(-b * self.size // blocks) : -(-(b + 1) * self.size // blocks)]
            candidate = word(word(self.seed, b), index)
            for j, e in enumerate(own):
                out[e] = table[word(candidate, j // 5) >> 52 - 12 * (j % 5) & 4095]
        return out


def shared_code(size: int, code: SharedCode, first: int, buckets: int, scale: float) -> list[float]:
    """The entries of a tensor of code 10."""
    own = code.weights()[first : first + (buckets or size)]
    if not buckets:
        return [float32(scale * z) for z in own]
    out, key = [], word(code.seed, 2**63 + first)
    for e in range(size):
        r = word(key, e)
        value = float32(scale * own[(r >> 32) * buckets >> 32])
        out.append(0.0 - value if r & 1 else value)
    return out


def product(left: Sequence[float], right: Sequence[float], rows: int, rank: int, columns: int) -> list[float]:
    """Code 2."""
    out = []
    for i in range(rows):
        for j in range(columns):
            total = 0.0
            for k in range(rank):
                total += left[i * rank + k] * right[k * columns + j]
            out.append(float32(total))
    return out
