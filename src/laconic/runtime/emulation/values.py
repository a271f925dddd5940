"""Quantised values: integers, the real numbers that they represent, and the conversion between the two."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from laconic.records import FloatArray
from laconic.runtime.emulation.fixed_point import Ints, round_away


@dataclass(frozen=True)
class Encoding:
    """``real = scale * (q - zero_point)`` with q in ``low .. high``."""

    scale: float
    zero_point: int
    low: int
    high: int

    def integer(self, real: float) -> int:
        """One real number as an integer, not yet saturated (bounds of activations)."""
        ratio = np.asarray(np.float32(real) / np.float32(self.scale))
        return int(np.clip(round_away(ratio), -(2.0**40), 2.0**40)) + self.zero_point

    def saturate(self, integers: Ints, low: int | None = None, high: int | None = None) -> Ints:
        """Clamp to the type's bounds, and to an activation's where they are narrower."""
        lowest = self.low if low is None else max(self.low, low)
        highest = self.high if high is None else min(self.high, high)
        return np.minimum(np.maximum(integers, lowest), highest)

    def encode(self, real: FloatArray) -> Quantised:
        """Real numbers as integers: ``round(x / scale) + zero_point`` in float32, ties away, saturated."""
        ratio = round_away(np.asarray(real, np.float32) / np.float32(self.scale))
        bound = float(2 * (self.high - self.low))
        integers = np.clip(ratio, -bound, bound).astype(np.int64) + self.zero_point
        return Quantised(self.saturate(integers), self)


@dataclass(frozen=True, eq=False)
class Quantised:
    """An array of integers and the real numbers that they stand for.

    Args:
        integers: Of any shape, zero point included.
        encoding: Their scale, zero point and bounds.

    Example:
        >>> Quantised(np.array([3, 5]), Encoding(0.5, 3, -128, 127)).values().tolist()
        [0.0, 1.0]
    """

    integers: Ints
    encoding: Encoding

    @property
    def centred(self) -> Ints:
        """The integers less their zero point: what layers multiply."""
        return self.integers - self.encoding.zero_point

    def values(self) -> FloatArray:
        """The real numbers that the integers stand for."""
        return self.centred.astype(np.float32) * np.float32(self.encoding.scale)
