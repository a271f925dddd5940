"""From the shapes of inputs and tensors to those of all values, node by node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from laconic.errors import CorruptFileError
from laconic.records import Graph, Node
from laconic.runtime.ops.numbers import NO_NUMBERS
from laconic.runtime.ops.results import FreeSize, result_of
from laconic.runtime.ops.shape_rules import MISFITS, Shape

_TRIED = (
    1, 64, 224, 2, 512, 4096, 16384, 8, 32, 96, 128, 256, 384, 1024, 16, 3, 7, 5, 9, 100, 320, 640, 1000,
    2047, 16000, 65536,
)  # fmt: skip
"""Free sizes that are tried when a graph is loaded; a network of images or sequences takes one of them."""


class Walk(NamedTuple):
    """A graph at one set of input shapes.

    ``shapes`` of all values; ``numbers`` of those that are one whole number made of sizes; ``nodes`` with
    these numbers as attributes, where they are sizes among the inputs.
    """

    shapes: list[Shape]
    numbers: dict[int, int]
    nodes: list[Node]


def follow(
    graph: Graph,
    tensors: Sequence[Shape],
    inputs: Sequence[Shape],
    numbers: Mapping[int, int] = NO_NUMBERS,
) -> list[Shape]:
    """The shape of every value, when the inputs have these shapes (see :func:`walk`).

    >>> from laconic.pack.graph.ops import make_node
    >>> from laconic.records import ValueSpec
    >>> nodes = (make_node("linear", (0, -1)), make_node("sum", (1,), dims=(0,)))
    >>> graph = Graph((ValueSpec("float32", (None, 3)),), nodes, (2,))
    >>> follow(graph, [(5, 3)], [(8, 3)])
    [(8, 3), (8, 5), (5,)]
    """
    return walk(graph, tensors, inputs, numbers).shapes


def walk(
    graph: Graph,
    tensors: Sequence[Shape],
    inputs: Sequence[Shape],
    numbers: Mapping[int, int] = NO_NUMBERS,
) -> Walk:
    """Shapes, and the arithmetic on sizes, when the inputs have these shapes.

    ``numbers`` are the values of tensors that are one int64 without dimensions, by their references. No
    operation's result has a shape that depends on other numbers, so this is complete.

    Raises ``CorruptFileError`` naming the operation whose inputs do not fit.
    """
    values, known = list(inputs), dict(numbers)
    nodes = []
    free = _free_size(graph, inputs)
    for node in graph.nodes:
        given = node.read(values, tensors)
        try:
            result = result_of(node, given, known, free)
        except (CorruptFileError, *MISFITS) as error:
            raise CorruptFileError(f"operation {node.op!r} (value {len(values)}): {error}") from None
        if result.number is not None:
            known[len(values)] = result.number
        values += result.shapes
        nodes.append(result.node)
    return Walk(values, known, nodes)


def _free_size(graph: Graph, shapes: Sequence[Shape]) -> FreeSize:
    """The size of the inputs' free dimension; None where there is none, or several that have names."""
    axes = len(graph.free_axes)
    for spec, shape in zip(graph.inputs, shapes, strict=True) if axes == 1 else ():
        for size, dim in zip(shape, spec.shape, strict=True):
            if dim is None:
                return FreeSize(axes, size)
    return FreeSize(axes, None)


def input_shapes(graph: Graph, free: int) -> list[Shape]:
    """The inputs' shapes with one size for every free dimension."""
    return [tuple(free if dim is None else dim for dim in spec.shape) for spec in graph.inputs]


def tried_inputs(graph: Graph) -> Iterator[list[Shape]]:
    """Input shapes to try where sizes are free; one when none is.

    All free axes have one size; where they have several names, a batch of 1 is tried first.
    """
    axes = graph.free_axes
    for free in _TRIED if axes else (1,):
        if free > 1 and len(axes) > 1:
            sizes = {**dict.fromkeys(axes, free), axes[0]: 1}
            yield [tuple(sizes[d] if isinstance(d, str) else d for d in spec.sizes) for spec in graph.inputs]
        yield input_shapes(graph, free)
