"""Matrices whose weights already lie on a uniform grid: ternary, constant, or decoded from 8-bit integers."""

from __future__ import annotations

import math

import numpy as np

from laconic.quantize.entropy_coded import GridChoice, Rows, Thresholds
from laconic.records import FloatArray, IntArray

_LARGEST = 127  # integer
_FIRST = 4  # rows that most matrices are told by
_BLOCK = 1 << 18


def own_grid(rows: Rows, shape: tuple[int, int]) -> GridChoice | None:
    """The grid that a matrix lies on exactly: the step of a row is its smallest magnitude above zero.

    Args:
        rows: Gives rows of the matrix.
        shape: Rows and columns, at least one of each.

    Returns:
        One step, or one for each row, with the entropy of the integers; None for a matrix that has weights
        between such steps, or beyond 127 of them.

    >>> w = np.float32([[0.3, -0.3, 0.0], [0.0, 0.6, 0.3]])
    >>> own_grid(lambda first, last: w[first:last], w.shape).steps == (float(np.float32(0.3)),)
    True
    """
    if _integers(rows(0, min(_FIRST, shape[0]))) is None:
        return None
    height, steps = max(1, _BLOCK // shape[1]), []
    counts = np.zeros(2 * _LARGEST + 1, np.int64)
    for first in range(0, shape[0], height):
        found = _integers(rows(first, min(shape[0], first + height)))
        if found is None:
            return None
        steps.append(found[0])
        counts += np.bincount((found[1] + _LARGEST).reshape(-1), minlength=len(counts))
    every = np.concatenate(steps)
    used = every[every > 0]
    if used.size == 0:
        return None
    shares = counts[counts > 0] / counts.sum()
    bits = max(0.0, -float(shares @ np.log2(shares)))
    if (used == used[0]).all():
        return GridChoice((float(used[0]),), Thresholds(0.0, 0.0), bits, 0.0)
    filled = np.where(every > 0, every, used[0])
    return GridChoice(tuple(filled.tolist()), Thresholds(0.0, 0.0), bits + 32 / shape[1], 0.0)


def _integers(block: FloatArray) -> tuple[FloatArray, IntArray] | None:
    """Steps of rows (0 of a row of zeros) and integers; None where these do not give the weights exactly."""
    size = np.abs(block)
    steps = np.where(size > 0, size, np.float32(math.inf)).min(1, keepdims=True)
    steps[np.isinf(steps)] = 0
    with np.errstate(all="ignore"):
        found = np.rint(block / np.where(steps > 0, steps, np.float32(1)))
        exact = (np.abs(found) <= _LARGEST) & (found * steps == block)
    return (steps[:, 0], found.astype(np.int32)) if bool(exact.all()) else None
