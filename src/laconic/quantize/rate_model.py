r"""What the integers of a matrix cost: is a weight zero, by row and column; if not, which level.

.. math:: P(q_{rk} \ne 0) = \frac{\rho_r \gamma_k}{\rho}, \qquad
   P(q \mid q \ne 0) = \frac{n_q + 0.1}{\sum_{q'} (n_{q'} + 0.1)}

with the densities of row r, column k and the whole matrix, and the counts n of the levels. The decisions of
this room price their choices with it; the coder adds neighbours and other contexts.

Source: entropy-constrained scalar quantisation, Chou, Lookabaugh & Gray 1989; the length of what a model
must tell, Rissanen 1978.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from laconic.records import IntArray

DoubleArray = npt.NDArray[np.float64]

ODDS = (1e-6, 0.98)
"""Bounds of a probability to be non-zero, so that no code length is infinite."""


_FEW = 1 << 16
_LEVELS_PER_WEIGHT = 4
"""A table of all levels has at most ``_FEW`` entries, or so many for each weight."""


@dataclass(frozen=True, eq=False)
class LevelPrices:
    """Nats of each level, given that it is not zero.

    Attributes:
        nats: By level, at index ``level + half``; or, with ``seen``, of these and then of any other level.
        half: The largest magnitude that has a price.
        seen: The levels in use, in rising order, where a table of all levels would be too long.

    >>> level_prices(np.int32([[1, -1]])).of(np.array([1, -1])).round(3).tolist()
    [0.738, 0.738]
    """

    nats: DoubleArray
    half: int
    seen: npt.NDArray[np.int64] | None = None

    def of(self, levels: npt.NDArray[np.generic]) -> DoubleArray:
        """Prices of levels from ``-half`` to ``half``, whole numbers of any type."""
        whole = levels.astype(np.int64)
        if self.seen is None:
            return self.nats[whole + self.half]
        at = np.searchsorted(self.seen, whole)
        known = self.seen[np.minimum(at, len(self.seen) - 1)] == whole
        return self.nats[np.where(known, at, len(self.seen))]

    def times(self, price: float) -> LevelPrices:
        """All prices multiplied by a number."""
        return replace(self, nats=price * self.nats)


@dataclass(frozen=True, eq=False)
class RateModel:
    """Statistics of a matrix of integers.

    Attributes:
        by_row: Each row's density over the whole density, (rows,).
        by_column: Each column's density, (columns,).
        levels: Nats of each level, given that it is not zero.

    >>> count_rate(np.int32([[1, 0], [1, 0]])).levels.half
    1
    """

    by_row: DoubleArray
    by_column: DoubleArray
    levels: LevelPrices

    @property
    def odds(self) -> DoubleArray:
        """Probability that a weight is not zero, (rows, columns)."""
        return np.clip(np.outer(self.by_row, self.by_column), *ODDS)


def count_rate(integers: IntArray, *, margin: int = 0) -> RateModel:
    """The statistics of a matrix.

    Args:
        integers: The matrix, int32 (rows, columns), not all zero.
        margin: Levels beyond the largest magnitude that get a price too.

    Returns:
        Its densities, and the price of its levels.

    >>> count_rate(np.int32([[1, 0], [2, 0]])).by_row.tolist()
    [1.3, 1.3]
    """
    by_row, by_column = nonzero_factors(integers)
    return RateModel(by_row, by_column, level_prices(integers, margin))


def nonzero_factors(integers: IntArray) -> tuple[DoubleArray, DoubleArray]:
    """P(weight is not zero) as row density x column density / density: a factor by row, one by column.

    Args:
        integers: The matrix, int32 (rows, columns), not all zero.

    Returns:
        Factors (rows,) and (columns,); each density is smoothed by 0.3 of a weight.

    >>> nonzero_factors(np.int32([[1, 0], [2, 0]]))[1].tolist()
    [1.15, 0.15]
    """
    nonzero = integers != 0
    rows, columns = nonzero.shape
    by_row = (nonzero.sum(1) + 0.3) / columns
    by_column = (nonzero.sum(0) + 0.3) / rows
    return by_row / nonzero.mean(), by_column


def level_prices(integers: IntArray, margin: int = 0) -> LevelPrices:
    """-ln of each non-zero level's share. Its memory grows with the number of weights, not with their size.

    Args:
        integers: The matrix, int32 (rows, columns).
        margin: Levels beyond the largest magnitude that get a price too.

    Returns:
        The prices up to the largest magnitude + margin.

    >>> level_prices(np.int32([[1, -1]])).nats.round(3).tolist()
    [0.738, 3.135, 0.738]
    """
    half = max(int(integers.max()), -int(integers.min())) + margin
    if 2 * half + 1 > max(_FEW, _LEVELS_PER_WEIGHT * integers.size):
        seen, counted = np.unique(integers[integers != 0], return_counts=True)
        smoothed = np.append(counted, 0) + 0.1
        whole = float(counted.sum()) + 0.1 * (2 * half + 1)
        return LevelPrices(-np.log(smoothed / whole), half, seen.astype(np.int64))
    counts = np.bincount(integers.ravel() + half, minlength=2 * half + 1).astype(np.float64)
    counts[half] = 0.0
    smoothed = counts + 0.1
    return LevelPrices(-np.log(smoothed / smoothed.sum()), half)


def rate_bits(integers: IntArray) -> float:
    r"""Code length of a tensor's integers under its own statistics, in bits: :math:`-\sum \log_2 P(q)`.

    Args:
        integers: The tensor, int32; rows are the first dimension, columns all others.

    Returns:
        Bits, without those of the tables.

    >>> rate_bits(np.int32([[1, -1, 1, -1], [-1, 1, -1, 1]])) < 8.5
    True
    """
    matrix = integers.reshape(integers.shape[0] if integers.ndim > 1 else 1, -1)
    if not matrix.any():
        return 0.0
    model, nonzero = count_rate(matrix), matrix != 0
    odds = model.odds
    nats = -np.log(np.where(nonzero, odds, 1.0 - odds)).sum()
    return float(nats + model.levels.of(matrix[nonzero]).sum()) / math.log(2.0)
