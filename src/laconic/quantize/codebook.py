"""Codebooks: each weight takes the nearest of a few levels.

Source: Achterhold et al., Variational Network Quantization, ICLR 2018, section 3.3: under a Gaussian
posterior the most probable level is the one nearest to the posterior mean.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from laconic.errors import InputError
from laconic.records import Codebook, FloatArray, IntArray, IntTensor, UniformGrid


def nearest_level(values: npt.ArrayLike, levels: npt.ArrayLike) -> IntArray:
    """Index of the nearest level for each value; ties go to the lower level.

    Args:
        values: Any shape.
        levels: The codebook, rising, shape (K,), in the values' unit.

    Returns:
        int32 indices in 0..K-1, of the shape of ``values``.

    Raises:
        InputError: Levels that do not rise, or none.

    >>> nearest_level([-0.3, 0.04, 0.11], [-0.2, 0.0, 0.2]).tolist()
    [0, 1, 2]
    """
    book = np.asarray(levels, dtype=np.float64)
    if book.ndim != 1 or book.size == 0 or np.any(np.diff(book) <= 0):
        raise InputError(
            f"codebook levels must be a rising list, got {book.tolist()}. Cure: levels=(-0.2, 0.0, 0.2)"
        )
    middles = (book[1:] + book[:-1]) / 2
    return np.array(np.searchsorted(middles, np.asarray(values, dtype=np.float64)), dtype=np.int32, order="C")


def on_levels(name: str, indices: IntArray, levels: tuple[float, ...]) -> IntTensor:
    """An IntTensor on ``levels``; multiples of one step become a uniform grid, which costs one number.

    A ternary book (-a, 0, a) becomes ``UniformGrid(a)`` with integers -1, 0, 1.

    Args:
        name: The tensor's name.
        indices: Which level each weight takes, int32 in 0..K-1, of the tensor's shape.
        levels: The codebook, rising, K values; they are rounded to float32.

    Returns:
        The tensor as integers on a grid or a codebook.

    >>> on_levels("fc.weight", np.int32([0, 2, 1]), (-0.5, 0.0, 0.5)).integers.tolist()
    [-1, 1, 0]
    """
    exact = tuple(float(np.float32(v)) for v in levels)
    gaps = {float(np.float32(b - a)) for a, b in zip(exact, exact[1:], strict=False)}
    if 0.0 in exact and len(gaps) == 1:
        grid = UniformGrid(gaps.pop())
        integers = np.array(indices - np.int32(exact.index(0.0)), dtype=np.int32, order="C")
        if np.array_equal(grid.dequantize(integers), np.asarray(exact, np.float32)[indices]):
            return IntTensor(name, integers, grid)
    return IntTensor(name, np.array(indices, dtype=np.int32, order="C"), Codebook(exact))


def even_levels(count: int, half_width: float) -> FloatArray:
    """``count`` levels evenly over [-half_width, half_width]; an odd count holds an exact zero.

    Args:
        count: Number of levels K, >= 2.
        half_width: Largest level, > 0, in the weights' unit.

    Returns:
        The levels, rising, float32 (K,).

    Raises:
        InputError: Fewer than two levels.

    >>> even_levels(3, 0.2).tolist()
    [-0.20000000298023224, 0.0, 0.20000000298023224]
    """
    if count < 2:
        raise InputError(f"a codebook needs at least 2 levels, got {count}. Cure: count=3")
    return np.linspace(-half_width, half_width, count).astype(np.float32)
