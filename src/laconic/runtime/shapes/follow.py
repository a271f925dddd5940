"""From the shapes of inputs and tensors to those of all values, node by node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from laconic.errors import CorruptFileError
from laconic.pack.ops import ints_of
from laconic.records import Graph, Node, ValueSpec
from laconic.runtime.shapes.arithmetic import ARITHMETIC_RULES
from laconic.runtime.shapes.common import MISFITS, Rule, Shape, entries
from laconic.runtime.shapes.layers import LAYER_RULES
from laconic.runtime.shapes.moves import MOVE_RULES

RULES: dict[str, Rule] = {**ARITHMETIC_RULES, **LAYER_RULES, **MOVE_RULES}

MOST_DIMENSIONS = 32
MOST_ENTRIES = 2**62
"""Beyond this a size times an entry's bytes leaves 64 bits, in which the runtime counts."""

_TRIED = (
    1, 64, 224, 2, 512, 4096, 16384, 8, 32, 96, 128, 256, 384, 1024, 16, 3, 7, 5, 9, 100, 320, 640, 1000,
    2047, 16000, 65536,
)  # fmt: skip
"""Free sizes that are tried when a graph is loaded; a network of images or sequences takes one of them."""


def follow(graph: Graph, tensors: Sequence[Shape], inputs: Sequence[Shape]) -> list[Shape]:
    """The shape of every value, when the inputs have these shapes.

    No operation's result has a shape that depends on numbers, so this says all.

    Raises ``CorruptFileError`` naming the operation whose inputs do not fit.

    >>> from laconic.pack.ops import make_node
    >>> nodes = (make_node("linear", (0, -1)), make_node("sum", (1,), dims=(0,)))
    >>> graph = Graph((ValueSpec("float32", (None, 3)),), nodes, (2,))
    >>> follow(graph, [(5, 3)], [(8, 3)])
    [(8, 3), (8, 5), (5,)]
    """
    values = list(inputs)
    free = _free_size(graph.inputs, inputs)
    for node in graph.nodes:
        given = tuple(
            None if ref is None else values[ref] if ref >= 0 else tensors[-1 - ref] for ref in node.inputs
        )
        rule = RULES.get(node.op)
        if rule is None:
            raise CorruptFileError(f"the graph uses {node.op!r}, which this runtime does not know")
        try:
            found = rule(_sized(node, free), given)
            _check(found)
        except (CorruptFileError, *MISFITS) as error:
            raise CorruptFileError(f"operation {node.op!r} (value {len(values)}): {error}") from None
        values += found
    return values


def _check(shapes: Sequence[Shape]) -> None:
    for shape in shapes:
        if len(shape) > MOST_DIMENSIONS:
            raise CorruptFileError(f"a value has {len(shape)} dimensions, more than {MOST_DIMENSIONS}")
        if entries(tuple(max(1, size) for size in shape)) > MOST_ENTRIES:
            raise CorruptFileError(f"a value of shape {shape} cannot be counted in 64 bits")


def _free_size(specs: Sequence[ValueSpec], shapes: Sequence[Shape]) -> int | None:
    """The size of the inputs' first free dimension."""
    for spec, shape in zip(specs, shapes, strict=True):
        for size, dim in zip(shape, spec.shape, strict=True):
            if dim is None:
                return size
    return None


def _sized(node: Node, free: int | None) -> Node:
    """A node that stretches to the inputs' free size, with that size said."""
    if node.op != "expand" or -1 not in ints_of(node, "shape"):
        return node
    if free is None:
        raise CorruptFileError("it reads a free dimension, but the graph's inputs have none")
    shape = tuple(free if size == -1 else size for size in ints_of(node, "shape"))
    return replace(node, attrs={**node.attrs, "shape": shape})


def input_shapes(graph: Graph, free: int) -> list[Shape]:
    """The inputs' shapes with one size for every free dimension."""
    return [tuple(free if dim is None else dim for dim in spec.shape) for spec in graph.inputs]


def free_sizes(graph: Graph) -> Iterator[int]:
    """Sizes to try for what only a call tells; one of them when nothing is free."""
    is_free = any(None in spec.shape for spec in graph.inputs)
    return iter(_TRIED if is_free else _TRIED[:1])
