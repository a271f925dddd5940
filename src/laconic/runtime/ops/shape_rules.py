"""Functions that the shape rules share: axes, broadcasting, and the error for shapes that do not fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from laconic.errors import CorruptFileError, FileFormatError
from laconic.records import Node

Shape = tuple[int, ...]
Given = tuple[Shape | None, ...]
"""Shapes of a node's inputs, None for an absent one."""

Rule = Callable[[Node, Given], tuple[Shape, ...]]
"""A node and its inputs' shapes -> its outputs' shapes; raises ``CorruptFileError`` where they do not fit."""


MISFITS = (ValueError, IndexError, KeyError, TypeError, ArithmeticError, MemoryError)
"""What rules and emitters raise for shapes that no writer produces."""


@contextmanager
def fitting(op: str) -> Iterator[None]:
    """Turn errors from shapes that no writer produces into ``CorruptFileError``."""
    try:
        yield
    except FileFormatError:
        raise
    except MISFITS as error:
        raise CorruptFileError(f"operation {op!r} does not fit its tensors: {error}") from error


def require(fits: bool, text: str) -> None:
    """Raise ``CorruptFileError`` with this text unless ``fits``."""
    if not fits:
        raise CorruptFileError(text)


def present(given: Given, index: int) -> Shape:
    """The shape of an input that must be there."""
    shape = given[index] if index < len(given) else None
    if shape is None:
        raise CorruptFileError(f"input {index} is absent")
    return shape


def optional(given: Given, index: int) -> Shape | None:
    """The shape of an input that may be absent."""
    return given[index] if index < len(given) else None


def filled(shape: Shape) -> Shape:
    """A shape, which must not be empty: many kernels divide by a size, or read the first entry."""
    require(all(size > 0 for size in shape), f"a value of shape {shape} is empty")
    return shape


def axis_at(axis: int, rank: int) -> int:
    """An axis counted from the front.

    >>> axis_at(-1, 3)
    2
    """
    require(-rank <= axis < rank, f"axis {axis} does not exist in {rank} dimensions")
    return axis % rank


def axes_at(axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Axes counted from the front, each once."""
    found = tuple(axis_at(axis, rank) for axis in axes)
    require(len(set(found)) == len(found), f"axes {tuple(axes)} name one twice")
    return found


def broadcast(*shapes: Shape) -> Shape:
    """The common shape, NumPy's rule.

    >>> broadcast((3, 1), (4,))
    (3, 4)
    """
    rank = max(map(len, shapes))
    found = [1] * rank
    for shape in shapes:
        for axis, size in enumerate(shape, rank - len(shape)):
            if size != 1:
                require(found[axis] in (1, size), f"shapes {' and '.join(map(str, shapes))} do not broadcast")
                found[axis] = size
    return tuple(found)


def replaced(shape: Shape, axis: int, size: int) -> Shape:
    """The shape with another size at one axis."""
    return (*shape[:axis], size, *shape[axis + 1 :])


def entries(shape: Shape) -> int:
    """Number of entries.

    >>> entries((2, 3))
    6
    """
    return math.prod(shape)
