r"""Rate-distortion quantisation: how far may a weight move, given how sure we are of it?

For a Gaussian posterior N(theta, sigma^2) the extra loss of storing ``q * step`` in place of theta
is, to second order, (theta - q*step)^2 / (2 sigma^2) nats: the posterior variance is the inverse
curvature. Each weight takes

.. math:: \arg\min_q \; \frac{(\theta - q\Delta)^2}{2\sigma^2} + \lambda R(q)

over the grid point nearest to theta, the one next to it towards zero, and zero, where R is the code length in
nats under the tensor's own statistics: whether it is zero (row density times column density over
overall density) and, if not, which level. A few alternations of choosing and re-counting
(Lloyd-Max with an entropy constraint, Chou, Lookabaugh & Gray 1989) settle it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from laconic.errors import InputError
from laconic.records import IntArray, WeightStats

BoolArray = npt.NDArray[np.bool_]
DoubleArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RateDistortion:
    """``price`` lambda (nats of distortion per nat of rate; 0 is plain rounding) and alternations."""

    price: float = 0.0
    iterations: int = 4

    def __post_init__(self) -> None:
        if self.price < 0 or self.iterations < 1:
            raise InputError(f"price must be >= 0 and iterations >= 1, got {self.price}, {self.iterations}")


def quantize(stats: WeightStats, keep: BoolArray, step: float, config: RateDistortion) -> IntArray:
    """Integers for one tensor; weights outside ``keep`` are zero.

    Shapes: ``stats.mean``, ``stats.variance`` and ``keep`` agree, and so does the result (int32).
    Raises InputError on shapes that differ or a step that is not positive.
    """
    if not (stats.mean.shape == stats.variance.shape == keep.shape) or not step > 0:
        raise InputError(
            f"{stats.name}: mean, variance and keep must share a shape and step be > 0, got {step}"
        )
    shape = keep.shape
    matrix = keep.reshape(shape[0] if keep.ndim > 1 else 1, -1)
    where = np.nonzero(matrix)
    means = stats.mean.reshape(matrix.shape)[where].astype(np.float64)
    precision = 1.0 / np.maximum(stats.variance.reshape(matrix.shape)[where].astype(np.float64), 1e-30)
    integers = np.zeros(matrix.shape, dtype=np.int32)
    integers[where] = np.rint(means / step)
    if config.price > 0:
        for _ in range(config.iterations):
            integers[where] = _choose(means, precision, step, config.price, integers, where)
    return integers.reshape(shape)


def _choose(
    means: DoubleArray,
    precision: DoubleArray,
    step: float,
    price: float,
    integers: IntArray,
    where: tuple[npt.NDArray[np.intp], ...],
) -> DoubleArray:
    """One alternation: count the present integers, then let each kept weight choose again."""
    if not integers.any():
        return np.zeros(means.shape)
    odds = _nonzero_probability(integers)[where]
    log_odds, half_precision = np.log(odds), 0.5 * precision
    level_nats, half = _level_nats(integers)
    nearest = np.clip(np.rint(means / step), -half, half)
    inward = nearest - np.sign(nearest)
    best = np.zeros(means.shape)
    best_cost = half_precision * means**2 - price * np.log1p(-odds)
    for candidate in (inward, nearest):
        rate = level_nats[candidate.astype(np.int64) + half] - log_odds
        cost = half_precision * (means - candidate * step) ** 2 + price * rate
        better = (cost < best_cost) & (candidate != 0)
        best_cost = np.where(better, cost, best_cost)
        best = np.where(better, candidate, best)
    return best


def _nonzero_probability(integers: IntArray) -> DoubleArray:
    """P(weight is not zero) as row density x column density / density, kept inside (0, 1)."""
    nonzero = integers != 0
    rows, columns = nonzero.shape
    by_row = (nonzero.sum(1, keepdims=True) + 0.3) / columns
    by_column = (nonzero.sum(0, keepdims=True) + 0.3) / rows
    return np.asarray(np.clip(by_row * by_column / nonzero.mean(), 1e-6, 0.98))


def _level_nats(integers: IntArray) -> tuple[DoubleArray, int]:
    """-ln of each non-zero level's share (index level + half), and half, the largest magnitude."""
    half = int(np.abs(integers).max())
    counts = np.bincount(integers.ravel() + half, minlength=2 * half + 1).astype(np.float64)
    counts[half] = 0.0
    smoothed = counts + 0.1
    return -np.log(smoothed / smoothed.sum()), half
