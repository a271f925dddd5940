"""Tensors of a checkpoint: elements of any type, exact or rounded from a stored tensor."""

from __future__ import annotations

import numpy as np

from laconic.errors import InputError
from laconic.records.base import AnyArray, record
from laconic.records.element_types import ByteArray, bytes_of, element_type, numpy_type, rounded_bytes
from laconic.records.tensors import Coded, IntTensor, Multiples, RawTensor, Tensor, described

ROUNDED_TYPES = ("float32", "float64", "float16", "bfloat16")
"""What a :class:`RoundedTensor` may have."""


@record
class ExactTensor(Tensor):
    """Elements of any type, bit for bit, NaN payloads included.

    Args:
        name: The tensor's name.
        shape: Its dimensions.
        type: The name of an :class:`laconic.records.element_types.ElementType`.
        data: The little-endian bytes of its elements in C order, uint8.

    >>> exact_tensor("w", np.array([1.5], np.float16)).values().tolist()
    [1.5]
    """

    name: str
    shape: tuple[int, ...]
    type: str
    data: ByteArray

    def __post_init__(self) -> None:
        wanted = self.size * element_type(self.type).bytes
        if self.data.dtype != np.uint8 or self.data.shape != (wanted,):
            raise InputError(
                f"tensor {self.name!r}: {wanted} bytes expected, got {self.data.dtype} {self.data.shape}. "
                f"Cure: uint8 data of shape ({wanted},)"
            )

    @property
    def dtype(self) -> str:
        """The type's name."""
        return self.type

    @property
    def layout(self) -> str:
        """The type's name, and that it is exact."""
        return f"exact {self.type}"

    def values(self) -> AnyArray:
        """An array of the type. Raises InputError where the type needs ml_dtypes, which is not installed."""
        return self.data.view(numpy_type(self.type)).reshape(self.shape)

    def nonzeros(self) -> int:
        """Number of elements with a bit that is not zero."""
        return int(np.count_nonzero(self.data.reshape(self.size, -1).any(1))) if self.size else 0


def exact_tensor(name: str, array: AnyArray) -> ExactTensor:
    """The tensor of a NumPy array.

    Args:
        name: The tensor's name.
        array: Elements of a type in ``laconic.records.element_types``.

    Returns:
        The tensor; it shares the array's memory where that is laid out as the file's.

    >>> exact_tensor("mask", np.array([True, False])).dtype
    'bool'
    """
    return ExactTensor(name, array.shape, element_type(array.dtype.name).name, bytes_of(array))


def elements_of(tensor: Tensor) -> ByteArray:
    """The little-endian bytes of a tensor's elements, of the type that ``tensor.dtype`` names.

    Args:
        tensor: A tensor of any kind.

    Returns:
        Its bytes in C order, uint8.

    >>> elements_of(RawTensor("w", np.array([1], np.int16))).tolist()
    [1, 0]
    """
    if isinstance(tensor, ExactTensor):
        return tensor.data
    if isinstance(tensor, RoundedTensor):
        return rounded_bytes(tensor.part.values(), tensor.type)
    return bytes_of(tensor.values())


@record
class RoundedTensor(Tensor):
    """The values of another tensor, rounded to a floating type: to the nearest, ties to even.

    Args:
        name: The tensor's name.
        part: Integers on a grid, or raw float32 or float16 elements.
        type: float32, float64, float16 or bfloat16.

    >>> from laconic.records import UniformGrid
    >>> part = IntTensor("", np.array([1, -3], np.int32), UniformGrid(0.5))
    >>> RoundedTensor("w", part, "float16").values().tolist()
    [0.5, -1.5]
    """

    name: str
    part: IntTensor | RawTensor
    type: str

    def __post_init__(self) -> None:
        if self.type not in ROUNDED_TYPES:
            raise InputError(
                f"tensor {self.name!r}: type {self.type} is not one of {', '.join(ROUNDED_TYPES)}. Cure: "
                "type='bfloat16'"
            )
        if not isinstance(self.part, IntTensor | RawTensor) or self.part.dtype not in ("float32", "float16"):
            raise InputError(
                f"tensor {self.name!r}: what is rounded must be integers on a grid, or raw float32 or "
                f"float16, got {described(self.part)}. Cure: a RawTensor of float32"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """The part's shape."""
        return self.part.shape

    @property
    def dtype(self) -> str:
        """The type's name."""
        return self.type

    @property
    def layout(self) -> str:
        """That of the part, and the type."""
        return f"{self.part.layout} as {self.type}"

    def values(self) -> AnyArray:
        """An array of the type. Raises InputError where the type needs ml_dtypes, which is not installed."""
        return rounded_bytes(self.part.values(), self.type).view(numpy_type(self.type)).reshape(self.shape)

    def nonzeros(self) -> int:
        """Number of values of the part that are not zero."""
        return self.part.nonzeros()

    def distinct(self) -> int:
        """Number of different integers."""
        return self.part.distinct()

    def coded(self) -> Coded | None:
        """The part's integers, where rounding changes nothing."""
        return self.part.coded() if self.type in ("float32", "float64") else None

    def multiples(self) -> Multiples | None:
        """The part's integers, where rounding changes nothing."""
        return self.part.multiples() if self.type in ("float32", "float64") else None
