"""Types of the elements of a checkpoint's tensors, and their bytes.

NumPy alone has no bfloat16 and no 8-bit floats. Arrays of these need the package ``ml_dtypes``; their bytes
do not, so that every tensor can be stored and written back without it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from laconic.errors import InputError
from laconic.records.base import AnyArray

if TYPE_CHECKING:
    import numpy.typing as npt

    ByteArray = npt.NDArray[np.uint8]
else:
    ByteArray = np.ndarray


class ElementType(NamedTuple):
    """A type of elements.

    Attributes:
        name: The name in NumPy or ml_dtypes.
        word: Bytes of a number; a complex element has two.
        numbers: Numbers of an element: 2 of a complex one, else 1.
        floating: Whether each number is a sign, an exponent and a mantissa.

    >>> element_type("complex64").bytes
    8
    """

    name: str
    word: int
    numbers: int
    floating: bool

    @property
    def bytes(self) -> int:
        """Bytes of an element."""
        return self.word * self.numbers


def _row(name: str, word: int, floating: bool = False, numbers: int = 1) -> ElementType:
    return ElementType(name, word, numbers, floating)


# Closed table of the codes in files (FORMAT.md, "Element types"). Append, never change.
ELEMENT_TYPES = (
    _row("float32", 4, True),
    _row("float16", 2, True),
    _row("float64", 8, True),
    _row("int64", 8),
    _row("int32", 4),
    _row("int16", 2),
    _row("int8", 1),
    _row("uint8", 1),
    _row("bool", 1),
    _row("bfloat16", 2, True),
    _row("uint16", 2),
    _row("uint32", 4),
    _row("uint64", 8),
    _row("float8_e4m3fn", 1, True),
    _row("float8_e5m2", 1, True),
    _row("complex64", 4, True, 2),
    _row("complex128", 8, True, 2),
    _row("float8_e8m0fnu", 1, True),
    _row("float8_e4m3fnuz", 1, True),
    _row("float8_e5m2fnuz", 1, True),
)
_BY_NAME = {kind.name: kind for kind in ELEMENT_TYPES}


def element_type(name: str) -> ElementType:
    """The type of this name.

    Raises:
        InputError: There is none.

    >>> element_type("bfloat16").word
    2
    """
    if name not in _BY_NAME:
        raise InputError(f"elements of type {name} cannot be stored. Cure: one of {', '.join(_BY_NAME)}")
    return _BY_NAME[name]


def numpy_type(name: str) -> np.dtype[np.generic]:
    """The little-endian NumPy type of an element type.

    Raises:
        InputError: A type that only ml_dtypes has, which is not installed.

    >>> numpy_type("float16").itemsize
    2
    """
    element_type(name)
    if name != "bfloat16" and not name.startswith("float8"):
        return np.dtype(name).newbyteorder("<")
    try:
        import ml_dtypes
    except ImportError as error:
        raise InputError(
            f"arrays of {name} need the package ml_dtypes. Cure: pip install ml_dtypes, or read the bytes"
        ) from error
    found: np.dtype[np.generic] = np.dtype(getattr(ml_dtypes, name))
    return found


def bytes_of(array: AnyArray) -> ByteArray:
    """The little-endian bytes of an array in C order, not copied where it is laid out so.

    >>> bytes_of(np.array([1], np.int32)).tolist()
    [1, 0, 0, 0]
    """
    flat = np.ascontiguousarray(array).reshape(-1)
    swapped = flat.dtype.byteorder == ">" or (sys.byteorder == "big" and flat.dtype.byteorder in "=|")
    if swapped and flat.dtype.itemsize > 1:
        flat = flat.astype(flat.dtype.newbyteorder("<"))
    return flat.view(np.uint8)


def rounded_bytes(values: AnyArray, name: str) -> ByteArray:
    """Bytes of float32 values rounded to a floating type, to the nearest, ties to even.

    Args:
        values: Float32, any shape.
        name: float32, float64, float16 or bfloat16.

    Returns:
        The little-endian bytes of the rounded values.

    Raises:
        InputError: Another type.

    >>> rounded_bytes(np.float32([1.0]), "bfloat16").tolist()
    [128, 63]
    """
    if name == "bfloat16":
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32).reshape(-1)
        short = ((bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16).astype("<u2")
        quiet = ((bits >> 16) | np.uint32(0x40)).astype("<u2")  # a NaN stays one
        short = np.where((bits & np.uint32(0x7FFFFFFF)) > 0x7F800000, quiet, short)
        return np.ascontiguousarray(short, "<u2").view(np.uint8)
    if name not in ("float32", "float64", "float16"):
        raise InputError(f"values cannot be rounded to {name}. Cure: float32, float64, float16 or bfloat16")
    with np.errstate(over="ignore"):
        return bytes_of(np.asarray(values, np.float32).astype(numpy_type(name)))
