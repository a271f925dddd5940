"""What one node makes of its inputs: shapes, whole numbers made of sizes, element types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from laconic.errors import CorruptFileError
from laconic.pack.graph.ops import ints_of
from laconic.records import Node
from laconic.runtime.ops.element_types import check_element_types
from laconic.runtime.ops.numbers import number_of, with_sizes
from laconic.runtime.ops.shape_rules import Given, Shape, entries
from laconic.runtime.ops.table import row_of

MOST_DIMENSIONS = 32
MOST_ENTRIES = 2**62
"""With more entries, a size in bytes would overflow the 64 bits in which the runtime counts."""


class FreeSize(NamedTuple):
    """The number of a graph's free axes, and their size where there is one axis."""

    axes: int
    size: int | None


class Result(NamedTuple):
    """A node with its sizes as attributes, its outputs' shapes, and its value if that is one whole number."""

    node: Node
    shapes: tuple[Shape, ...]
    number: int | None


def result_of(node: Node, given: Given, known: Mapping[int, int], free: FreeSize) -> Result:
    """What a node makes of inputs of these shapes; ``known`` are the numbers made of sizes so far.

    Raises ``CorruptFileError``, or what shape rules raise (``shape_rules.MISFITS``), for a misfit.

    >>> result_of(Node("linear", (0, -1)), ((8, 3), (5, 3)), {}, FreeSize(0, None)).shapes
    ((8, 5),)
    """
    row = row_of(node.op)
    sized = with_sizes(_sized(node, free), known)
    shapes = row.shape(sized, given)
    _check(shapes)
    return Result(sized, shapes, number_of(node, given, known))


def types_of(node: Node, kinds: Sequence[str | None]) -> Sequence[str]:
    """The types of a node's outputs; None for an input that is absent.

    Raises ``CorruptFileError`` for types that the operation does not take.

    >>> types_of(Node("topk", (0,), {}, 2), ["float32"])
    ('float32', 'int64')
    """
    row = row_of(node.op)
    check_element_types(node, row.takes, kinds)
    return row.result(node, [kind or "float32" for kind in kinds])


def _check(shapes: Sequence[Shape]) -> None:
    for shape in shapes:
        if len(shape) > MOST_DIMENSIONS:
            raise CorruptFileError(f"a value has {len(shape)} dimensions, more than {MOST_DIMENSIONS}")
        if entries(tuple(max(1, size) for size in shape)) > MOST_ENTRIES:
            raise CorruptFileError(f"a value of shape {shape} cannot be counted in 64 bits")


def _sized(node: Node, free: FreeSize) -> Node:
    """A node that expands to the inputs' free size, with that size filled in."""
    if node.op != "expand" or -1 not in ints_of(node, "shape"):
        return node
    if free.size is None:
        many = "several" if free.axes > 1 else "none"
        raise CorruptFileError(f"the graph reads the free dimension, and its inputs have {many}")
    shape = tuple(free.size if size == -1 else size for size in ints_of(node, "shape"))
    return replace(node, attrs={**node.attrs, "shape": shape})
