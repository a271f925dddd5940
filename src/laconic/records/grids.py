"""Grids map integers to values: multiples of a step or levels of a codebook, per tensor or per channel."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from laconic.errors import InputError
from laconic.records.base import AnyArray, FloatArray, IntArray, Record, record

_LARGEST = float(np.finfo(np.float32).max)


class Affine(NamedTuple):
    """Values are ``steps * (q - zero)``.

    Attributes:
        zero: The integer of value zero.
        steps: One step, or one for each index of ``axis``.
        axis: The dimension of the channels; None: one step for the whole tensor.

    >>> Codebook((-0.5, 0.0, 0.5)).affine()
    Affine(zero=1, steps=(0.5,), axis=None)
    """

    zero: int
    steps: tuple[float, ...]
    axis: int | None


class Grid(ABC):
    """Maps the integers of a tensor to values.

    ``axis``: the dimension along which each index (channel) has its own step or codebook; None: one grid for
    the whole tensor.
    """

    axis: int | None

    @property
    @abstractmethod
    def channels(self) -> int:
        """Number of channels; 1 without an axis."""

    @property
    @abstractmethod
    def numbers(self) -> tuple[float, ...]:
        """All steps or levels, channel after channel."""

    @property
    @abstractmethod
    def zero(self) -> int | None:
        """The integer whose value is zero in every channel; None when there is none."""

    @abstractmethod
    def dequantize(self, integers: IntArray) -> FloatArray:
        """Integers -> float32 values. Raises InputError for another number of channels."""

    @abstractmethod
    def problem(self, integers: IntArray, lowest: int, highest: int) -> str | None:
        """An error message for integers within these extremes; None when all have a finite value."""

    @abstractmethod
    def nonzeros(self, integers: IntArray) -> int:
        """Number of integers whose value is not zero."""

    @abstractmethod
    def bits(self, lowest: int, highest: int) -> tuple[int, int]:
        """Bits of a stored code within these extremes, and of its value in a product."""

    @abstractmethod
    def take(self, axis: int, index: AnyArray) -> Grid:
        """The grid of the tensor that keeps these indices of an axis."""

    def affine(self) -> Affine | None:
        """The grid as steps times shifted integers; None when it has no such form."""
        return None

    def unfit(self, shape: tuple[int, ...]) -> str | None:
        """Why the grid does not fit a tensor of this shape; None when it does."""
        if self.axis is None:
            return None
        if self.axis >= len(shape):
            return f"its grid has channels along axis {self.axis}, the tensor has {len(shape)} dimensions"
        if shape[self.axis] != self.channels:
            size = shape[self.axis]
            return f"its grid has {self.channels} channels, axis {self.axis} of the tensor has {size}"
        return None

    def _checked(self, integers: IntArray) -> None:
        why = self.unfit(integers.shape)
        if why is not None:
            raise InputError(f"{why}. Cure: one step or codebook for each index of the axis")


def _check_axis(axis: int | None, per_channel: bool, what: str) -> None:
    if per_channel != (axis is not None) or (axis is not None and axis < 0):
        raise InputError(
            f"{what}: axis is {axis!r}. Cure: numbers of each channel with axis=0, 1, ..., or those of the "
            "whole tensor with axis=None"
        )


def _along(values: AnyArray, axis: int, rank: int) -> AnyArray:
    """A vector as an array that broadcasts along one axis of ``rank``."""
    return values.reshape([-1 if k == axis else 1 for k in range(rank)])


def _is_step(step: object) -> bool:
    return isinstance(step, int | float) and step > 0 and _is_float32(step)


def _is_float32(value: float) -> bool:
    return math.isfinite(value) and float(np.float32(value)) == value


@record
class UniformGrid(Record, Grid):
    """Values are ``float32(step) * float32(q)``: one IEEE single-precision multiply.

    Args:
        step: Finite, positive, exactly representable in float32. With ``axis``, a tuple: one per channel.
        axis: The dimension whose indices are the channels; None: one step for the whole tensor.

    A symmetric ternary layer {-a, 0, a} is ``UniformGrid(step=a)`` with q in {-1, 0, 1}.

    >>> UniformGrid((0.5, 2.0), axis=0).dequantize(np.array([[1, -1], [1, 3]], np.int32)).tolist()
    [[0.5, -0.5], [2.0, 6.0]]
    """

    step: float | tuple[float, ...]
    axis: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.step, tuple):
            if not _is_step(self.step):
                raise InputError(
                    f"grid step must be a positive float32, got {self.step!r}. Cure: step=0.5, or "
                    "float(np.float32(step)) of a step above 0"
                )
        else:
            for channel, step in enumerate(self.step):
                if not _is_step(step):
                    raise InputError(
                        f"grid step of channel {channel} must be a positive float32, got {step!r}. Cure: "
                        "0.5, or float(np.float32(step)) of a step above 0"
                    )
        _check_axis(self.axis, isinstance(self.step, tuple), "a uniform grid")

    @property
    def channels(self) -> int:
        """Number of steps."""
        return len(self.numbers)

    @property
    def numbers(self) -> tuple[float, ...]:
        """The steps."""
        return self.step if isinstance(self.step, tuple) else (self.step,)

    @property
    def zero(self) -> int:
        """0: no float32 step times another integer rounds to zero."""
        return 0

    def dequantize(self, integers: IntArray) -> FloatArray:
        """Integers -> float32 values, bit-exactly ``step * q``."""
        self._checked(integers)
        values = np.asarray(integers.astype(np.float32))
        if self.axis is None:
            values *= np.float32(self.numbers[0])
        else:
            values *= _along(np.array(self.numbers, np.float32), self.axis, integers.ndim)
        return values

    def problem(self, integers: IntArray, lowest: int, highest: int) -> str | None:
        """A message if a product exceeds float32's range."""
        largest = max(self.numbers, default=0.0)
        if max(-lowest, highest) * largest <= _LARGEST:
            return None
        if self.axis is not None:
            with np.errstate(over="ignore"):
                if np.isfinite(self.dequantize(integers)).all():
                    return None
        return f"integers {lowest}..{highest} times the step {largest} leave the range of float32"

    def nonzeros(self, integers: IntArray) -> int:
        """Number of integers that are not 0."""
        return int(np.count_nonzero(integers))

    def bits(self, lowest: int, highest: int) -> tuple[int, int]:
        """The fewest bits b with -2^(b-1) <= lowest and highest < 2^(b-1), for code and product alike."""
        bits = 1 + max(highest.bit_length(), (-lowest - 1).bit_length() if lowest < 0 else 0)
        return bits, bits

    def take(self, axis: int, index: AnyArray) -> UniformGrid:
        """The steps of the kept channels."""
        if axis != self.axis:
            return self
        return UniformGrid(tuple(self.numbers[k] for k in index.tolist()), axis)

    def affine(self) -> Affine:
        """The steps, with integer 0 as zero."""
        return Affine(0, self.numbers, self.axis)


@record
class Codebook(Record, Grid):
    """Values are ``levels[q]``, q in 0..len(levels)-1; levels are float32, strictly increasing.

    Args:
        levels: The levels, at least one. With ``axis``, a tuple of such tuples: one codebook per channel.
        axis: The dimension whose indices are the channels; None: one codebook for the whole tensor.

    >>> books = Codebook(((-1.0, 1.0), (0.0, 2.0, 4.0)), axis=0)
    >>> books.dequantize(np.array([[0, 1], [2, 1]], np.int32)).tolist()
    [[-1.0, 1.0], [4.0, 2.0]]
    """

    levels: tuple[float, ...] | tuple[tuple[float, ...], ...]
    axis: int | None = None

    def __post_init__(self) -> None:
        nested = all(isinstance(book, tuple) for book in self.levels) and (
            bool(self.levels) or self.axis is not None
        )
        _check_axis(self.axis, nested, "a codebook")
        for book in self.books:
            rising = all(a < b for a, b in zip(book, book[1:], strict=False))
            if not (book and all(map(_is_float32, book)) and rising):
                raise InputError(
                    f"codebook levels must be rising finite float32 values, got {book!r}. Cure: "
                    "levels=(-0.5, 0.0, 0.5)"
                )

    @property
    def books(self) -> tuple[tuple[float, ...], ...]:
        """The levels of each channel; one without an axis."""
        return self.levels if self.axis is not None else (self.levels,)  # type: ignore[return-value]

    @property
    def channels(self) -> int:
        """Number of codebooks."""
        return len(self.books)

    @property
    def numbers(self) -> tuple[float, ...]:
        """All levels, channel after channel."""
        return tuple(level for book in self.books for level in book)

    @property
    def zero(self) -> int | None:
        """The index of level 0 if it is the same in all channels."""
        places = {book.index(0.0) if 0.0 in book else None for book in self.books}
        return places.pop() if len(places) == 1 else None

    def dequantize(self, integers: IntArray) -> FloatArray:
        """Integers -> float32 values, one look-up each."""
        self._checked(integers)
        if self._outside(integers):
            raise InputError(
                f"an index of {integers.min()}..{integers.max()} is outside its codebook of "
                f"{self._level_counts()} levels. Cure: indices from 0, below the number of levels"
            )
        table = np.array(self.numbers, np.float32)
        if self.axis is None:
            return np.asarray(table[integers])
        starts = np.array([0, *accumulate(map(len, self.books))][:-1], np.int32)
        return np.asarray(table[integers + _along(starts, self.axis, integers.ndim)])

    def problem(self, integers: IntArray, lowest: int, highest: int) -> str | None:
        """A message if an index is outside its codebook."""
        if lowest >= 0 and highest < min(map(len, self.books), default=2**31):
            return None
        if self.axis is not None and not self._outside(integers):
            return None
        return f"indices {lowest}..{highest} leave a codebook of {self._level_counts()} levels"

    def nonzeros(self, integers: IntArray) -> int:
        """Number of indices whose level is not 0."""
        return int(np.count_nonzero(self.dequantize(integers)))

    def bits(self, lowest: int, highest: int) -> tuple[int, int]:
        """ceil(log2 n) of n levels, at least 1; a look-up gives a float32."""
        most = max(map(len, self.books), default=1)
        return max(1, (most - 1).bit_length()), 32

    def take(self, axis: int, index: AnyArray) -> Codebook:
        """The codebooks of the kept channels."""
        if axis != self.axis:
            return self
        return Codebook(tuple(self.books[k] for k in index.tolist()), axis)

    def affine(self) -> Affine | None:
        """A ternary codebook {-a, 0, a} is (q - 1) times the step a."""
        if self.axis is None and len(self.levels) == 3:
            low, middle, high = self.numbers
            if middle == 0 and low == -high:
                return Affine(1, (high,), None)
        return None

    def _outside(self, integers: IntArray) -> bool:
        """Whether an index is outside its channel's codebook."""
        counts = np.array([len(book) for book in self.books], np.int64)
        if self.axis is not None:
            counts = _along(counts, self.axis, integers.ndim)
        return bool((integers < 0).any() or (integers >= counts).any())

    def _level_counts(self) -> str:
        """The number of levels, for messages."""
        sizes = sorted({len(book) for book in self.books})
        return "..".join(str(n) for n in dict.fromkeys((sizes[0], sizes[-1])))
