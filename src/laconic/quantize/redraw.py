r"""Draws of a quantised tensor inside its own grid, by the posterior's mass of each level's cell.

A weight that was put on level :math:`v_k` is taken to have the posterior :math:`N(v_k, \sigma^2)`, and level
j is drawn with the mass of the values that lie nearest to it,

.. math:: P(j) = \Phi\Big(\frac{b_{j+1} - v_k}{\sigma}\Big) - \Phi\Big(\frac{b_j - v_k}{\sigma}\Big), \qquad
          b_j = \tfrac12 (v_{j-1} + v_j).

To draw :math:`w \sim N(v_k, \sigma^2)` and take the nearest level is the same. The levels are the grid's: a
codebook, or all multiples of a step, so that a posterior wider than the tensor's range is not cut off. Where
the step is many deviations wide, next to nothing moves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from laconic.records import AnyArray, FloatArray, IntArray, IntTensor
from laconic.records.grids import Codebook

LARGEST = 1e9
"""The largest deviation of weights that is drawn: far above any weight's, so that integers fit."""


def redraw(
    tensor: IntTensor,
    spread: float,
    zero_spread: float,
    rng: np.random.Generator,
    *,
    factors: Sequence[Sequence[float]] = (),
    share: float = 1.0,
) -> IntTensor:
    """One draw of a tensor's integers.

    Args:
        tensor: A tensor on a grid.
        spread: Posterior standard deviation of its weights that are not zero, in their unit, >= 0.
        zero_spread: That of those at zero; 0 where these were removed, and so are no longer random.
        rng: The source of the draw.
        factors: Of the deviations along the first axes, in order; an empty one is 1.
        share: Of the zeros that are random; which ones these are is not known, so that each draw takes
            others.

    Returns:
        The tensor with other integers of the same grid.

    >>> from laconic.records import UniformGrid
    >>> weight = IntTensor("w", np.int32([2, 0, -2]), UniformGrid(0.5))
    >>> drawn = [redraw(weight, 0.5, 0.0, np.random.default_rng(s)).integers.tolist() for s in range(200)]
    >>> sorted({q for q, _, _ in drawn} & {1, 2, 3}), {q for _, q, _ in drawn}
    ([1, 2, 3], {0})
    """
    values = tensor.values()
    spreads = np.where(values == 0, np.float32(zero_spread), np.float32(spread))
    for axis, numbers in enumerate(factors):
        if numbers:
            along = np.asarray(numbers, np.float32)
            spreads = spreads * along.reshape([-1 if k == axis else 1 for k in range(values.ndim)])
    if zero_spread > 0 and share < 1:
        spreads = np.where((values == 0) & (rng.random(values.shape) >= share), np.float32(0), spreads)
    spreads = np.minimum(spreads, np.float32(LARGEST))
    drawn = values + spreads * rng.standard_normal(values.shape, dtype=np.float32)
    return IntTensor(
        tensor.name, np.where(spreads > 0, _nearest(tensor, drawn), tensor.integers), tensor.grid
    )


def _nearest(tensor: IntTensor, values: AnyArray) -> IntArray:
    """The integers of the levels nearest to some values of the tensor's shape."""
    grid = tensor.grid
    if isinstance(grid, Codebook):
        if grid.axis is None:
            return _in_book(np.array(grid.books[0], np.float32), values)
        rows = np.moveaxis(values, grid.axis, 0)
        books = [np.array(book, np.float32) for book in grid.books]
        found = np.stack([_in_book(book, row) for book, row in zip(books, rows, strict=True)])
        return np.ascontiguousarray(np.moveaxis(found, 0, grid.axis))
    steps = np.array(grid.numbers, np.float32)
    if grid.axis is not None:
        steps = steps.reshape([-1 if k == grid.axis else 1 for k in range(values.ndim)])
    return np.rint(values / steps).astype(np.int32)


def _in_book(book: FloatArray, values: AnyArray) -> IntArray:
    found: IntArray = np.searchsorted((book[1:] + book[:-1]) / 2, values).astype(np.int32)
    return found
