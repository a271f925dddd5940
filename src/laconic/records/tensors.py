"""A stored tensor: integers on a grid, raw elements, or another kind (generated.py)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from laconic.records.base import AnyArray, FloatArray, IntArray, Record, record
from laconic.records.grids import Affine, Grid

if TYPE_CHECKING:
    from laconic.records.facts import TensorFacts

_PIECE = 1 << 20  # integers that are counted at once
Self = TypeVar("Self", bound="Tensor")


class Coded(NamedTuple):
    """Integers with one grid for the whole tensor.

    Attributes:
        integers: Int32, in the tensor's shape.
        grid: Maps the integers to values.

    >>> from laconic.records import UniformGrid
    >>> IntTensor("w", np.array([1, -2], np.int32), UniformGrid(0.5)).coded().grid
    UniformGrid(step=0.5, axis=None)
    """

    integers: IntArray
    grid: Grid


class Multiples(NamedTuple):
    """Integers that are multiples of steps: a grid that is affine.

    Attributes:
        integers: Int32, in the tensor's shape.
        affine: Steps, and the integer of zero.

    >>> from laconic.records import UniformGrid
    >>> IntTensor("w", np.array([1, -2], np.int32), UniformGrid(0.5)).multiples().affine.steps
    (0.5,)
    """

    integers: IntArray
    affine: Affine


class Tensor(Record, ABC):
    """A stored tensor: a name, and values that have the same bits on every machine.

    A subclass must have ``name``, ``shape`` and ``values``; its kind (``laconic.pack.kinds``) defines how a
    file stores it. The other methods have defaults that are correct for every tensor; a subclass overrides
    them where it can do better.
    """

    name: str
    __eq__ = object.__eq__  # comparing arrays gives no single bool
    __hash__ = object.__hash__

    if TYPE_CHECKING:  # a field or a property of the subclass; a property here would be a field's default

        @property
        def shape(self) -> tuple[int, ...]:
            """Its dimensions."""

    @abstractmethod
    def values(self) -> AnyArray:
        """Its values; every decoder computes the same bits."""

    @property
    def dtype(self) -> str:
        """The numpy name of the values' type."""
        return "float32"

    @property
    def layout(self) -> str:
        """A short name of how it is stored."""
        return type(self).__name__

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    def nonzeros(self) -> int:
        """Number of entries whose value is not zero."""
        return int(np.count_nonzero(self.values()))

    def distinct(self) -> int:
        """Number of different integers that are stored; 0 of a tensor without integers."""
        return 0

    def coded(self) -> Coded | None:
        """Its integers and their common grid; None when it is not stored so."""
        return None

    def multiples(self) -> Multiples | None:
        """Its integers and the steps that they are multiples of; None when it is not stored so."""
        return None

    def renamed(self: Self, name: str) -> Self:
        """The same tensor under another name."""
        return replace(self, name=name)

    def take(self, axis: int, index: AnyArray) -> Tensor:
        """The entries at these indices of one axis, as ``numpy.take``; by default as raw elements."""
        return RawTensor(self.name, self.values()).take(axis, index)

    def cost(self) -> TensorFacts:
        """Its cost in memory and in products; by default that of its float32 values."""
        bits = 1 if self.dtype == "bool" else 8 * np.dtype(self.dtype).itemsize
        return _facts(self, bits, bits, 0)


def _facts(tensor: Tensor, bits: int, value_bits: int, table_bytes: int) -> TensorFacts:
    from laconic.records.facts import TensorFacts

    return TensorFacts(tensor.name, tensor.shape, tensor.nonzeros(), bits, value_bits, table_bytes)


@record
class IntTensor(Tensor):
    """A tensor as integers on a grid.

    Args:
        name: The tensor's name.
        integers: Int32, C-contiguous, of any shape.
        grid: Maps the integers to values.

    >>> from laconic.records import UniformGrid
    >>> IntTensor("w", np.array([[1, 0], [0, -2]], np.int32), UniformGrid(0.5)).values().tolist()
    [[0.5, 0.0], [0.0, -1.0]]
    """

    name: str
    integers: IntArray
    grid: Grid

    @property
    def shape(self) -> tuple[int, ...]:
        """The integers' shape."""
        return self.integers.shape

    @property
    def layout(self) -> str:
        """The grid's kind."""
        return f"IntTensor {type(self.grid).__name__}" + (
            " per channel" if self.grid.axis is not None else ""
        )

    def values(self) -> FloatArray:
        """The float32 values; every decoder computes the same bits."""
        return self.grid.dequantize(self.integers)

    def nonzeros(self) -> int:
        """Number of entries whose value is not zero."""
        return self.grid.nonzeros(self.integers)

    def distinct(self) -> int:
        """Number of different integers, without sorting a large array of few."""
        if self.integers.size == 0:
            return 0
        lowest, highest = int(self.integers.min()), int(self.integers.max())
        if highest - lowest < 2**16:
            flat, counts = self.integers.reshape(-1), np.zeros(highest - lowest + 1, np.int64)
            for first in range(0, flat.size, _PIECE):
                shifted = flat[first : first + _PIECE] - np.int32(lowest)
                counts += np.bincount(shifted, minlength=len(counts))
            return int(np.count_nonzero(counts))
        return len(np.unique(self.integers))

    def coded(self) -> Coded | None:
        """Integers and grid, unless the grid is per channel."""
        return Coded(self.integers, self.grid) if self.grid.axis is None else None

    def multiples(self) -> Multiples | None:
        """Integers and steps of a uniform grid, or of a ternary codebook {-a, 0, a}."""
        affine = self.grid.affine()
        return None if affine is None else Multiples(self.integers, affine)

    def take(self, axis: int, index: AnyArray) -> IntTensor:
        """Those integers, on the grid of the kept channels."""
        part = np.ascontiguousarray(np.take(self.integers, index, axis=axis))
        return IntTensor(self.name, part, self.grid.take(axis, index))

    def cost(self) -> TensorFacts:
        """Codes of the fewest bits, and a table of the grid's numbers."""
        low, high = int(self.integers.min(initial=0)), int(self.integers.max(initial=0))
        return _facts(self, *self.grid.bits(low, high), 4 * len(self.grid.numbers))


@record
class RawTensor(Tensor):
    """A tensor whose elements are stored as they are.

    Args:
        name: The tensor's name.
        array: C-contiguous, of one of the element types of FORMAT.md ("Tensor header").

    >>> RawTensor("steps", np.array(7, np.int64)).dtype
    'int64'
    """

    name: str
    array: AnyArray

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape."""
        return self.array.shape

    @property
    def dtype(self) -> str:
        """The array's type."""
        return str(self.array.dtype)

    @property
    def layout(self) -> str:
        """The type of the elements."""
        return f"raw {self.array.dtype.name}"

    def values(self) -> AnyArray:
        """The stored array itself."""
        return self.array

    def take(self, axis: int, index: AnyArray) -> RawTensor:
        """Those elements."""
        return RawTensor(self.name, np.ascontiguousarray(np.take(self.array, index, axis=axis)))


def extremes(integers: IntArray) -> tuple[int, int]:
    """Smallest and largest entry; (0, 0) of an empty array."""
    return (int(integers.min()), int(integers.max())) if integers.size else (0, 0)


def described(part: object) -> str:
    """How a tensor is stored, and its shape; of anything else, its type.

    >>> described(RawTensor("w", np.zeros((2, 3), np.float32))), described(None)
    ('raw float32 of shape (2, 3)', 'NoneType')
    """
    return f"{part.layout} of shape {part.shape}" if isinstance(part, Tensor) else type(part).__name__
