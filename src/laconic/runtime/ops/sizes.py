"""Operations on sizes: the size of an axis, ranges, integer quotients and remainders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from laconic.errors import CorruptFileError
from laconic.pack.graph.ops import int_of
from laconic.records import Node
from laconic.runtime.ops.numbers import COUNT
from laconic.runtime.ops.row import Op, Takes, places, plain, type_of_first, wrong_type
from laconic.runtime.ops.shape_rules import Given, Shape, axis_at, broadcast, present

if TYPE_CHECKING:
    from laconic.runtime.onnx_model.builder import Builder

LONGEST_RANGE = 2**22
"""Entries of an ``arange`` at most: so that a number in a file cannot fill the memory."""


def _shape_at(b: Builder, name: str, axis: int) -> str:
    if axis == -1:
        return b.op("Shape", name, start=-1)
    return b.op("Shape", name, start=axis, end=axis + 1)


def _size_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    """The number of entries along an axis, as an int64 without dimensions."""
    return (b.op("Squeeze", _shape_at(b, x[0], int_of(node, "axis")), b.ints((0,))),)


def _arange_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    zero, one, most = (b.constant(np.asarray(n, dtype=np.int64)) for n in (0, 1, LONGEST_RANGE))
    return (b.op("Range", zero, b.op("Min", x[0], most), one),)


def _divisor(b: Builder, name: str) -> str:
    """A divisor below 1 counts as 1: processors trap on a division by zero."""
    return b.op("Max", name, b.constant(np.asarray(1, dtype=np.int64)))


def _floor_divide_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    """ONNX' quotient of integers is truncated towards zero, so the remainder is subtracted first."""
    divisor = _divisor(b, x[1])
    return (b.op("Div", b.op("Sub", x[0], b.op("Mod", x[0], divisor)), divisor),)


def _remainder_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Mod", x[0], _divisor(b, x[1])),)


def _size_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    axis_at(int_of(node, "axis"), len(present(given, 0)))
    return ((),)


def _arange_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    """The count was filled in by ``numbers.with_sizes``."""
    count = node.attrs[COUNT]
    if present(given, 0) != () or not isinstance(count, int):
        raise CorruptFileError("its count is not a number")
    return ((max(0, min(count, LONGEST_RANGE)),),)


def _divided_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    return (broadcast(present(given, 0), present(given, 1)),)


def _whole(node: Node, inputs: Sequence[str]) -> tuple[str, ...]:
    if set(inputs) != {"int64"}:
        raise wrong_type(node, "takes int64, not {kinds}", inputs)
    return type_of_first(node, inputs)


ROWS: dict[str, Op] = {
    "size": plain(_size_form, _size_shape, Takes(), "move")._replace(result=places),
    "arange": plain(_arange_form, _arange_shape, Takes(), "move")._replace(result=places),
    "floor_divide": plain(_floor_divide_form, _divided_shape, Takes(), "pointwise")._replace(result=_whole),
    "remainder": plain(_remainder_form, _divided_shape, Takes(), "pointwise")._replace(result=_whole),
}
