"""How a tensor's entries lie: its matrix view, and the image that its columns may form."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Index = npt.NDArray[np.int64]
    Flags = npt.NDArray[np.bool_]
else:
    Index = Flags = np.ndarray
_TRAIL_ENTRIES = 1 << 22


class Geometry(NamedTuple):
    """Columns in groups of ``inner`` that are images of ``width`` pixels a row (0: no image)."""

    inner: int = 1
    width: int = 0

    def neighbours(self, columns: Index, down: int, right: int) -> Index:
        """For each kept column the index in ``columns`` of the pixel at the offset (down, right).

        ``len(columns)`` means "outside the image", one more means "a column that is not kept".

        >>> Geometry(4, 2).neighbours(np.array([0, 1, 3]), 0, -1)
        array([3, 0, 4])
        """
        kept = len(columns)
        if self.width == 0 or kept == 0:
            return np.full(kept, kept, np.int64)
        place = np.full(int(columns[-1]) + 1 + self.inner, kept + 1, np.int64)
        place[columns] = np.arange(kept)
        x, y = columns % self.inner % self.width + right, columns % self.inner // self.width + down
        inside = (x >= 0) & (x < self.width) & (y >= 0) & (y * self.width + x < self.inner)
        return np.where(inside, place[columns + down * self.width + right], kept)


def matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows (the first dimension) and columns (all others); vectors and scalars are one row.

    >>> matrix_shape((50, 20, 5, 5)), matrix_shape((7,)), matrix_shape(())
    ((50, 500), (1, 7), (1, 1))
    """
    if len(shape) < 2:
        return 1, math.prod(shape)
    return shape[0], math.prod(shape[1:])


def geometries(shape: tuple[int, ...], rows_before: int | None) -> tuple[Geometry, ...]:
    """The four geometries that a file can name by number.

    0: none. 1: the kernel of a convolution. 2: maps of the layer before, flattened (its number of rows
    divides the columns). 3: the columns are one square image. Where a case does not apply it is none.
    """
    columns = matrix_shape(shape)[1]
    none = Geometry()
    kernel = before = image = none
    if len(shape) > 2 and min(shape) > 0:
        kernel = Geometry(math.prod(shape[2:]), shape[-1])
    if len(shape) > 1 and rows_before and columns % rows_before == 0 and columns:
        inner = columns // rows_before
        before = Geometry(inner, math.isqrt(inner))
    if len(shape) == 2 and columns > 1 and math.isqrt(columns) ** 2 == columns:
        image = Geometry(columns, math.isqrt(columns))
    return none, kernel, before, image


class Trail(NamedTuple):
    """Context from the last matrix of the file for the next tensors: which of its rows are not all zero.

    A row of zeros is a unit that computes nothing, so the next layer's columns for this unit, and this
    layer's own bias, are likely zero too. ``used`` is None when the matrix is too large to be scanned.
    """

    rows: int | None = None
    used: Flags | None = None

    def hint(self, columns: int) -> Flags | None:
        """One flag per column of the next tensor, when its columns are whole groups of those rows."""
        if self.used is None or not self.rows or columns == 0 or columns % self.rows:
            return None
        return np.repeat(self.used, columns // self.rows)

    def after(self, integers: npt.NDArray[np.int32], zero: int | None) -> Trail:
        """The trail after this tensor; ``zero`` is the integer whose value is zero (-1 if None)."""
        if integers.ndim < 2:
            return self
        if integers.size > _TRAIL_ENTRIES or integers.size == 0:
            return Trail(integers.shape[0])
        empty = -1 if zero is None else zero
        return Trail(integers.shape[0], (integers.reshape(integers.shape[0], -1) != empty).any(1))

    def after_chunks(self, shape: tuple[int, ...]) -> Trail:
        """The trail after a tensor in chunks, which need not be decoded before what follows it."""
        return Trail(shape[0]) if len(shape) > 1 else self
