"""Tensors of an incremental file: they are computed from a tensor of the parent file."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import NoReturn

import numpy as np

from laconic.errors import InputError
from laconic.records.base import AnyArray, IntArray, record
from laconic.records.element_types import ByteArray, ElementType, element_type
from laconic.records.grids import UniformGrid
from laconic.records.tensors import IntTensor, Tensor, described, extremes
from laconic.records.typed import ExactTensor, RoundedTensor, elements_of

_PIECE = 1 << 16  # integers that are added at once, in the cache


class ChildTensor(Tensor):
    """A tensor whose values need one of the parent file.

    Attributes:
        name: The tensor's name.
        shape: Its dimensions.
        type: The name of its element type.
        source: The name of the parent's tensor.
    """

    type: str
    source: str

    @property
    def dtype(self) -> str:
        """The type's name."""
        return self.type

    def values(self) -> NoReturn:
        """Raises InputError: the parent is needed."""
        raise InputError(
            f"tensor {self.name!r} is stored as what differs from tensor {self.source!r} of another file. "
            "Cure: laconic.pack.open(path, parent=...), or laconic unpack --parent"
        )

    def nonzeros(self) -> int:
        """0: not known without the parent."""
        return 0

    def resolve(self, parent: Tensor) -> Tensor:
        """The tensor, given the parent's.

        Raises:
            InputError: The parent's tensor has another shape or type, or is stored in another form.
        """
        check_parent(self.name, self.shape, self.type, self.source, parent)
        return self._resolve(parent).renamed(self.name)

    @abstractmethod
    def _resolve(self, parent: Tensor) -> Tensor: ...


@record
class SameTensor(ChildTensor):
    """The parent's tensor as it is.

    Args:
        name: The tensor's name.
        shape: Its dimensions.
        type: The name of its element type.
        source: The name of the parent's tensor.

    >>> from laconic.records import RawTensor
    >>> parent = RawTensor("w", np.ones(2, np.float32))
    >>> SameTensor("v", (2,), "float32", "w").resolve(parent).values().tolist()
    [1.0, 1.0]
    """

    name: str
    shape: tuple[int, ...]
    type: str
    source: str

    def _resolve(self, parent: Tensor) -> Tensor:
        return parent


@record
class ShiftedTensor(ChildTensor):
    """Integers that are added to those of the parent's tensor, on its grid.

    Args:
        name: The tensor's name.
        shape: Its dimensions.
        type: The name of its element type.
        source: The name of the parent's tensor.
        part: The differences, on the uniform grid of step 1.

    >>> parent = IntTensor("w", np.array([1, 2], np.int32), UniformGrid(0.5))
    >>> change = IntTensor("", np.array([0, 1], np.int32), UniformGrid(1.0))
    >>> ShiftedTensor("w", (2,), "float32", "w", change).resolve(parent).values().tolist()
    [0.5, 1.5]
    """

    name: str
    shape: tuple[int, ...]
    type: str
    source: str
    part: IntTensor

    def __post_init__(self) -> None:
        part = self.part
        if not isinstance(part, IntTensor) or part.shape != self.shape or part.grid != UniformGrid(1.0):
            raise InputError(
                f"tensor {self.name!r}: the differences must be integers of shape {self.shape} on the step "
                f"1, got {described(part)}. Cure: an IntTensor of that shape on UniformGrid(1.0)"
            )

    def _resolve(self, parent: Tensor) -> Tensor:
        integers = shiftable(self.source, parent).copy()
        add_in_place(integers, self.part.integers)
        return shifted(self.name, parent, integers)


def check_parent(name: str, shape: tuple[int, ...], kind: str, source: str, parent: Tensor) -> None:
    """Raise InputError where a tensor of the parent has another shape or type than the child's."""
    if parent.shape != shape or parent.dtype != kind:
        raise InputError(
            f"tensor {name!r} is {kind} {shape}, tensor {source!r} of the parent is {parent.dtype} "
            f"{parent.shape}. Cure: the parent that the child was made from"
        )


def shiftable(source: str, parent: Tensor) -> IntArray:
    """The integers of a parent's tensor. Raises InputError where it has none on a uniform grid."""
    inner = integers_of(parent)
    if inner is None:
        raise InputError(
            f"tensor {source!r} of the parent is {parent.layout}, no uniform grid. Cure: the parent that the "
            "child was made from"
        )
    return inner.integers


def add_in_place(integers: IntArray, change: IntArray) -> None:
    """Add integers, some rows at a time. Raises InputError for a sum that leaves 32 bits.

    >>> integers = np.array([1, 2], np.int32)
    >>> add_in_place(integers, np.array([0, -3], np.int32))
    >>> integers.tolist()
    [1, -1]
    """
    flat, more = integers.reshape(-1), change.reshape(-1)
    for first in range(0, flat.size, _PIECE):
        total = flat[first : first + _PIECE].astype(np.int64) + more[first : first + _PIECE]
        if int(total.min()) < -(2**31) or int(total.max()) >= 2**31:
            raise InputError(
                f"the sums {int(total.min())}..{int(total.max())} leave 32 bits. Cure: the parent that the "
                "differences were taken from"
            )
        flat[first : first + _PIECE] = total


def shifted(name: str, parent: Tensor, integers: IntArray) -> Tensor:
    """The parent's tensor with other integers. Raises InputError for those that its grid has no value for."""
    inner = integers_of(parent)
    if inner is None:
        raise InputError(
            f"tensor {name!r}: the parent's is {parent.layout}, no uniform grid. Cure: the parent that the "
            "child was made from"
        )
    why = inner.grid.problem(integers, *extremes(integers))
    if why is not None:
        raise InputError(f"tensor {name!r}: {why}. Cure: the parent that the differences were taken from")
    changed = replace(inner, integers=integers)
    return replace(parent, part=changed) if isinstance(parent, RoundedTensor) else changed


def integers_of(tensor: Tensor) -> IntTensor | None:
    """A tensor's integers on a uniform grid, those that are rounded too; None where it has none."""
    inner = tensor.part if isinstance(tensor, RoundedTensor) else tensor
    return inner if isinstance(inner, IntTensor) and isinstance(inner.grid, UniformGrid) else None


@record
class ExactDifference(ChildTensor):
    """Differences of bit patterns from the parent's tensor, bit for bit.

    Each number's pattern counts its rank in the order of values; ``data`` holds zigzag((rank of the
    child - rank of the parent) mod 2^bits).

    Args:
        name: The tensor's name.
        shape: Its dimensions.
        type: The name of its element type.
        source: The name of the parent's tensor.
        data: The little-endian bytes of the differences in C order, uint8.

    >>> from laconic.records import RawTensor
    >>> parent = RawTensor("w", np.array([1.0], np.float32))
    >>> change = ExactDifference("w", (1,), "float32", "w", np.array([2, 0, 0, 0], np.uint8))
    >>> change.resolve(parent).values().tolist()
    [1.0000001192092896]
    """

    name: str
    shape: tuple[int, ...]
    type: str
    source: str
    data: ByteArray

    def __post_init__(self) -> None:
        wanted = self.size * element_type(self.type).bytes
        if self.data.dtype != np.uint8 or self.data.shape != (wanted,):
            raise InputError(
                f"tensor {self.name!r}: {wanted} bytes expected, got {self.data.dtype} {self.data.shape}. "
                f"Cure: uint8 data of shape ({wanted},)"
            )

    def _resolve(self, parent: Tensor) -> Tensor:
        data = with_differences(elements_of(parent), self.data, element_type(self.type))
        return ExactTensor(self.name, self.shape, self.type, data)


def differences(child: ByteArray, parent: ByteArray, kind: ElementType) -> ByteArray:
    """The bytes of an :class:`ExactDifference`.

    Args:
        child: Bytes of the elements.
        parent: As many, of the parent's.
        kind: The type of both.

    Returns:
        Bytes of the zigzag differences.

    >>> one, two = (np.array([x], np.float16).view(np.uint8) for x in (1.0, 1.0009765625))
    >>> differences(two, one, element_type("float16")).tolist()
    [2, 0]
    """
    change = _ranks(child, kind) - _ranks(parent, kind)
    return ((change << 1) ^ (0 - (change >> (8 * kind.word - 1)))).view(np.uint8)


def with_differences(parent: ByteArray, data: ByteArray, kind: ElementType) -> ByteArray:
    """The inverse of :func:`differences`: the child's bytes."""
    coded = data.view(f"<u{kind.word}")
    ranks = _ranks(parent, kind) + ((coded >> 1) ^ (0 - (coded & 1)))
    if kind.floating:
        top = ranks >> (8 * kind.word - 1)
        ranks = ranks ^ _mask(1 - top, kind.word)
    found: ByteArray = ranks.view(np.uint8)
    return found


def _ranks(data: ByteArray, kind: ElementType) -> AnyArray:
    """Bit patterns such that greater numbers have greater ones.

    Of a negative number all bits are inverted, of another the sign bit.
    """
    bits = data.view(f"<u{kind.word}")
    if not kind.floating:
        return bits
    return bits ^ _mask(bits >> (8 * kind.word - 1), kind.word)


def _mask(negative: AnyArray, word: int) -> AnyArray:
    """All bits where ``negative`` is 1, the sign bit where it is 0."""
    sign = negative.dtype.type(1 << (8 * word - 1))
    found: AnyArray = (0 - negative) | sign
    return found
