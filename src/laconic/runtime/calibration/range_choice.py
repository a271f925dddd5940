"""How a range is chosen from what was seen of a value, and how one of several such rules is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from laconic.errors import InputError

if TYPE_CHECKING:
    from laconic.records import ActivationRange

BINS = 8192
"""A range of a thirtieth of the extremes still covers as many bins as it has levels."""

SHARES = 2.0 ** (-np.arange(61) / 12)
"""Shares of an extreme that a bound may be, from all to a thirty-second, each 6 % below the one before."""

Doubles = npt.NDArray[np.float64]


class Histogram(NamedTuple):
    """How often a value's entries fell into each of ``BINS`` equal bins between ``low`` and ``high``."""

    low: float
    high: float
    counts: npt.NDArray[np.int64]

    @property
    def edges(self) -> Doubles:
        """The bins' ends, one more than there are bins."""
        return np.linspace(self.low, self.high, len(self.counts) + 1)

    @property
    def centres(self) -> Doubles:
        """The middle of each bin."""
        width = (self.high - self.low) / len(self.counts)
        return np.asarray(self.low + width * (np.arange(len(self.counts)) + 0.5), np.float64)


class RangeChoice(Protocol):
    """How a range is chosen: real bounds from what was seen of a value."""

    def bounds(self, seen: Histogram) -> tuple[float, float]:
        """The smallest and largest number that must be representable."""
        ...


@dataclass(frozen=True)
class MinMax:
    """All that was seen, outliers included.

    >>> MinMax().bounds(Histogram(-1.0, 3.0, np.ones(BINS, np.int64)))
    (-1.0, 3.0)
    """

    def bounds(self, seen: Histogram) -> tuple[float, float]:
        """The extremes."""
        return seen.low, seen.high


@dataclass(frozen=True)
class Percentile:
    """All but a share: ``percent`` of the entries are inside, the rest in equal parts beyond both ends.

    Args:
        percent: The share of the entries inside, in percent, 50 to 100.

    >>> low, high = Percentile(50.0).bounds(Histogram(0.0, 1.0, np.ones(BINS, np.int64)))
    >>> round(low, 2), round(high, 2)
    (0.25, 0.75)
    """

    percent: float = 99.99

    def __post_init__(self) -> None:
        if not 50.0 <= self.percent <= 100.0:
            raise InputError(f"percent must be in 50..100, got {self.percent}. Cure: percent=99.9")

    def bounds(self, seen: Histogram) -> tuple[float, float]:
        """Bin edges, so that no more than the share is cut off."""
        total = np.cumsum(seen.counts) / max(1, int(seen.counts.sum()))
        tail = (1.0 - self.percent / 100.0) / 2
        first = int(np.searchsorted(total, tail, side="right"))
        last = min(len(total) - 1, int(np.searchsorted(total, 1.0 - tail, side="left")))
        width = (seen.high - seen.low) / len(total)
        return seen.low + first * width, seen.low + (last + 1) * width


@dataclass(frozen=True)
class LeastError:
    """The bounds with the least quantisation error of 256 levels in the L_p norm; p = 2 is least squares.

    The error is the sum over the entries x of |x - Q(x)|^p. Beyond the bounds that is the distance to the
    nearer one. Between them it is (step / 2)^p / (p + 1), the mean of a rounding error that is uniform in
    -step/2 .. step/2, and |x|^p where x is rounded to zero. Both bounds are searched together, each among 61
    shares of its extreme. The smaller ``power``, the less the few largest entries count.

    Source: Nahshan et al. 2019, "Loss aware post-training quantization", section 4.

    Args:
        power: The norm's p, above 0 and at most 16.

    >>> counts = np.zeros(BINS, np.int64)
    >>> counts[:1024], counts[-1] = 1000, 1
    >>> LeastError(1.0).bounds(Histogram(0.0, 8.0, counts))
    (0.0, 1.0)
    """

    power: float = 2.0

    def __post_init__(self) -> None:
        if not 0.0 < self.power <= 16.0:
            raise InputError(f"power must be above 0 and at most 16, got {self.power}. Cure: 2.0")

    def bounds(self, seen: Histogram) -> tuple[float, float]:
        """The best pair; of equal ones the widest."""
        size = max(-min(seen.low, 0.0), seen.high, 0.0)
        if size == 0.0 or seen.low == seen.high:
            return seen.low, seen.high
        scaled = Histogram(seen.low / size, seen.high / size, seen.counts)  # so that no power overflows
        lows, below = self._ends(scaled)
        highs, above = self._ends(Histogram(-scaled.high, -scaled.low, scaled.counts[::-1]))
        errors = np.add.outer(below, above) + self._rounded(scaled, lows, -highs)
        low, high = np.unravel_index(int(np.argmin(errors)), errors.shape)
        return float(lows[low] * size), 0.0 - float(highs[high] * size)

    def _ends(self, seen: Histogram) -> tuple[Doubles, Doubles]:
        """Possible lower bounds, on edges of bins, and the error below each."""
        if seen.low >= 0.0:
            return np.zeros(1), np.zeros(1)
        count, width = len(seen.counts), (seen.high - seen.low) / len(seen.counts)
        cut = np.unique(np.minimum(np.rint(seen.low * (SHARES - 1.0) / width), count).astype(np.int64))
        distance = (width * (np.arange(count) + 0.5)) ** self.power
        errors = [float(seen.counts[:k][::-1] @ distance[:k]) for k in cut]
        return np.asarray(seen.low + width * cut, np.float64), np.asarray(errors)

    def _rounded(self, seen: Histogram, lows: Doubles, highs: Doubles) -> Doubles:
        """The error between the bounds, of each lower one (row) with each upper one (column)."""
        low, high = lows[:, None], highs[None]
        half = (high - low) / 255 / 2
        near = np.maximum(low, -half), np.minimum(high, half)
        to_zero = _total(seen, np.abs(seen.centres) ** self.power * seen.counts, *near)
        others = _total(seen, seen.counts, low, high) - _total(seen, seen.counts, *near)
        return to_zero + others * half**self.power / (self.power + 1)


def _total(seen: Histogram, amounts: npt.NDArray[np.int64] | Doubles, low: Doubles, high: Doubles) -> Doubles:
    """What the bins hold between two places, a bin that one of them cuts in proportion."""
    sums = np.concatenate([[0.0], np.cumsum(amounts)])
    edges = seen.edges
    return np.asarray(np.interp(high, edges, sums) - np.interp(low, edges, sums), np.float64)


@dataclass(frozen=True)
class LeastOutputError:
    """Of several choices the one with which the int8 network's outputs are nearest to the float32 ones.

    Which entries may be cut off depends on what the network makes of them, and no statistic of a single value
    tells that. So the network runs in int8 with each candidate on some calibration batches. The choice has
    the least sum over the outputs of |y_int8 - y_float32|^2 / |y_float32|^2; of equal ones the first is
    taken. The network's own outputs keep their extremes.

    Source: Nahshan et al. 2019, "Loss aware post-training quantization": p is chosen by the network's loss.

    Args:
        candidates: The choices that are tried, in this order.
        examples: About how many examples of the calibration batches each candidate runs on.

    >>> LeastOutputError((MinMax(), Percentile(99.9))).candidates
    (MinMax(), Percentile(percent=99.9))
    """

    candidates: tuple[RangeChoice, ...] = (
        LeastError(2.0),
        LeastError(1.5),
        LeastError(1.25),
        LeastError(1.0),
        LeastError(0.875),
        LeastError(0.75),
        MinMax(),
    )
    examples: int = 256

    def __post_init__(self) -> None:
        if not self.candidates:
            raise InputError("LeastOutputError needs a candidate. Cure: LeastOutputError((MinMax(),))")
        if isinstance(self.examples, bool) or not isinstance(self.examples, int) or self.examples < 1:
            raise InputError(f"examples must be a positive whole number, got {self.examples!r}. Cure: 256")


def range_of(value: int, low: float, high: float) -> ActivationRange:
    """The range that covers ``low``, ``high`` and zero in 256 levels, zero being one of them.

    >>> range_of(1, 0.0, 127.5)
    ActivationRange(value=1, scale=0.5, zero_point=-128)
    """
    from laconic.records import ActivationRange

    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.clip(np.float32((high - low) / 255), np.float32(2.0**-64), np.float32(2.0**64)))
    if high == low:
        scale = 1.0
    return ActivationRange(value, scale, int(np.clip(np.rint(-128 - low / scale), -128, 127)))
