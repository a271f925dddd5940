r"""Rate-distortion quantisation: each weight moves by what its posterior variance allows.

For a Gaussian posterior N(theta, sigma^2) the extra loss of storing ``q * step`` in place of theta
is, to second order, (theta - q*step)^2 / (2 sigma^2) nats: the posterior variance is the inverse
curvature. Each weight takes

.. math:: \arg\min_q \; \frac{(\theta - q\Delta)^2}{2\sigma^2} + \lambda R(q)

over the grid point nearest to theta, the one next to it towards zero, and zero, where R is the code length in
nats under the tensor's own statistics: whether it is zero (row density times column density over
overall density) and, if not, which level. A few alternations of choosing and re-counting
(Lloyd-Max with an entropy constraint, Chou, Lookabaugh & Gray 1989) are enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from laconic.errors import InputError
from laconic.quantize.likelihood import lost_nats
from laconic.quantize.rate_model import ODDS, DoubleArray, level_prices, nonzero_factors
from laconic.records import IntArray, WeightStats

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class RateDistortion:
    """Settings of rate-distortion quantisation.

    Args:
        price: lambda, nats of distortion accepted for one nat of rate; 0 rounds to the nearest grid point.
        iterations: Alternations of choosing integers and counting their statistics, >= 1.

    Raises:
        InputError: A negative price, or no alternation.
    """

    price: float = 0.0
    iterations: int = 4

    def __post_init__(self) -> None:
        if self.price < 0 or self.iterations < 1:
            raise InputError(
                f"price must be >= 0 and iterations >= 1, got {self.price}, {self.iterations}"
                ". Cure: price=1, iterations=4"
            )


def quantize(stats: WeightStats, keep: BoolArray, step: float, config: RateDistortion) -> IntArray:
    """Integers for one tensor; weights outside ``keep`` are zero.

    Shapes: ``stats.mean``, ``stats.variance`` and ``keep`` agree, and so does the result (int32).
    Raises InputError on shapes that differ or a step that is not positive.
    """
    if not (stats.mean.shape == stats.variance.shape == keep.shape) or not step > 0:
        raise InputError(
            f"{stats.name}: mean, variance and keep of shapes {tuple(stats.mean.shape)}, "
            f"{tuple(stats.variance.shape)} and {tuple(keep.shape)} must share a shape and step be > 0, got "
            f"{step}. Cure: keep of the weight's shape, step=0.01"
        )
    shape = keep.shape
    matrix = keep.reshape(shape[0] if keep.ndim > 1 else 1, -1)
    where = np.nonzero(matrix)
    means = stats.mean.reshape(matrix.shape)[where].astype(np.float64)
    rounded = np.rint(means / step)
    integers = np.zeros(matrix.shape, dtype=np.int32)
    integers[where] = rounded
    if config.price > 0:
        live = rounded != 0  # what rounds to zero stays there: all other choices lie between
        rows, columns = (index[live] for index in where)
        variances = stats.variance.reshape(matrix.shape)[rows, columns].astype(np.float64)
        weights = _Weights(means[live], 1.0 / np.maximum(variances, 1e-30), rounded[live], rows, columns)
        for _ in range(config.iterations):
            chosen = _choose(weights, step, config.price, integers)
            if np.array_equal(chosen, integers[rows, columns]):
                break
            integers[rows, columns] = chosen
    return integers.reshape(shape)


class _Weights(NamedTuple):
    """The weights that have a choice: means, inverse variances, nearest grid points, and where they stand."""

    means: DoubleArray
    precision: DoubleArray
    nearest: DoubleArray
    rows: npt.NDArray[np.intp]
    columns: npt.NDArray[np.intp]


def _choose(weights: _Weights, step: float, price: float, integers: IntArray) -> DoubleArray:
    """One alternation: count the present integers, then let each weight choose again."""
    means, precision = weights.means, weights.precision
    if not integers.any():
        return np.zeros(means.shape)
    by_row, by_column = nonzero_factors(integers)
    odds = np.clip(by_row[weights.rows] * by_column[weights.columns], *ODDS)
    prices = level_prices(integers)
    nearest = np.clip(weights.nearest, -prices.half, prices.half)
    inward = nearest - np.sign(nearest)
    best = np.zeros(means.shape)
    best_cost = lost_nats(means, precision, 0.0) - price * np.log1p(-odds)
    log_odds = np.log(odds)
    for candidate in (inward, nearest):
        rate = prices.of(candidate) - log_odds
        cost = lost_nats(means, precision, candidate * step) + price * rate
        better = (cost < best_cost) & (candidate != 0)
        best_cost = np.where(better, cost, best_cost)
        best = np.where(better, candidate, best)
    return best
