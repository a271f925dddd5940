"""Dense matrices of two bits a weight: four consecutive integers times one step, such as a ternary matrix.

The activations are rounded to 8 bits, as ONNX Runtime's ``MatMulNBits`` with ``accuracy_level`` 4 does:

    q = round(x / s),  s = max |x| / 127,  y = step * s * sum of integer * q

with one s for each row of x, ties to even. The sums are exact, so y is wrong by at most
``step * s / 2 * sum of |integers|`` of a row, plus the rounding of float32. A row of x that holds an infinity
or a NaN gives NaN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from laconic.errors import InputError
from laconic.records import AnyArray, FloatArray, IntArray

GROUP = 4
"""Rows that lie interleaved (GROUP in twobit.c)."""

WIDE = 256
"""Columns of a row that 64 bytes hold."""

MOST_COLUMNS = 2**20
"""Sums of more might not fit in 32 bits."""

if TYPE_CHECKING:
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]
else:
    Bytes = np.ndarray


class TwoBits(NamedTuple):
    """A matrix of integers ``lowest .. lowest + 3`` times one step.

    Attributes:
        integers: (rows, columns).
        lowest: The smallest of the four, -3 to 0.
        step: What one unit of the integers stands for.

    Example:
        >>> TwoBits(np.zeros((2, 3), np.int32), 0, 0.5).shape
        (2, 3)
    """

    integers: IntArray
    lowest: int
    step: float

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        rows, cols = self.integers.shape
        return int(rows), int(cols)


def fits_two_bits(lowest: int, highest: int, columns: int) -> bool:
    """Whether integers in this range, with zero among them, fit in two bits.

    Args:
        lowest: The smallest integer.
        highest: The largest integer.
        columns: Columns of the matrix.

    Returns:
        True for at most four consecutive integers in at most 2^20 columns.

    >>> fits_two_bits(-1, 1, 4096), fits_two_bits(-2, 2, 4096)
    (True, False)
    """
    return max(highest, 0) - min(lowest, 0) <= 3 and columns <= MOST_COLUMNS


def two_bits(integers: IntArray, step: float) -> TwoBits:
    """The two-bit form of a matrix of integers times a step.

    Args:
        integers: (rows, columns).
        step: What one unit of the integers stands for, one for the whole matrix.

    Returns:
        The form that :class:`laconic.runtime.kernels.TwoBitMatrix` multiplies by.

    Raises:
        InputError: That is no matrix, or the integers do not fit.

    >>> two_bits(np.array([[-1, 0, 1]], np.int32), 0.5).lowest
    -1
    """
    if integers.ndim != 2:
        raise InputError(
            f"a two-bit matrix has rows and columns, got the shape {integers.shape}. Cure: "
            "integers.reshape(rows, columns)"
        )
    lowest, highest = int(integers.min(initial=0)), int(integers.max(initial=0))
    if not fits_two_bits(lowest, highest, integers.shape[1]):
        raise InputError(
            f"integers {lowest} .. {highest} in {integers.shape[1]} columns do not fit in two bits. Cure: at "
            f"most four consecutive ones with zero among them, in at most {MOST_COLUMNS} columns"
        )
    return TwoBits(integers, lowest, step)


def packed(form: TwoBits) -> Bytes:
    """The bytes that ``twobit.c`` reads: 64 for 256 columns of a row, four rows interleaved.

    >>> packed(two_bits(np.array([[0, 1, 2, 3]], np.int32), 1.0)).reshape(4, 16)[0, :5].tolist()
    [0, 1, 2, 3, 0]
    """
    rows, cols = form.shape
    groups, chunks, tail = -(-rows // GROUP), cols // WIDE, -(-(cols % WIDE) // 64) * 16
    codes = np.zeros((groups * GROUP, chunks * WIDE + 4 * tail), np.uint8)
    codes[:rows, :cols] = form.integers - form.lowest
    wide = _joined(codes[:, : chunks * WIDE].reshape(groups, GROUP, chunks, 4, 64)).transpose(0, 2, 1, 3)
    last = _joined(codes[:, chunks * WIDE :].reshape(groups, GROUP, 4, tail))
    parts = [part.reshape(groups, part.size // max(1, groups)) for part in (wide, last)]
    return np.concatenate(parts, axis=1).reshape(-1)


def _joined(codes: Bytes) -> Bytes:
    """Four codes in a byte; they lie along the last axis but one."""
    joined = codes[..., 0, :].copy()
    for k in range(1, 4):
        joined |= codes[..., k, :] << np.uint8(2 * k)
    return joined


def rounded(x: FloatArray) -> tuple[AnyArray, FloatArray]:
    """X (batch, columns) as integers of 8 bits, and a step for each row; what has no step is zero times it.

    >>> rounded(np.array([[1, -127, 0.5]], np.float32))
    (array([[   1., -127.,    0.]], dtype=float32), array([1.], dtype=float32))
    """
    most = np.abs(x).max(axis=1, initial=0)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        times = np.float32(127) / most
        usable = np.isfinite(most) & np.isfinite(times)
        whole = np.rint(np.where(usable[:, None], x, 0) * np.where(usable, times, 0)[:, None])
        steps = np.where(usable, most / np.float32(127), np.where(np.isfinite(most), 0, np.nan))
    return whole.astype(np.float32), steps.astype(np.float32)
