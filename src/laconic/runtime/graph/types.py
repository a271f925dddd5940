"""The numpy type of every value of a graph, and the types that an operation cannot take."""

from __future__ import annotations

from collections.abc import Sequence

from laconic.errors import CorruptFileError
from laconic.records import Graph
from laconic.runtime.ops.results import types_of


def value_types(graph: Graph, tensors: Sequence[str]) -> list[str]:
    """The type of every value; ``tensors`` are those of the file's, as the runtime reads them.

    >>> from laconic.records import Node, ValueSpec
    >>> graph = Graph((ValueSpec("float32", (None, 3)),), (Node("topk", (0,), {}, 2),), (1,))
    >>> value_types(graph, [])
    ['float32', 'float32', 'int64']

    Raises ``CorruptFileError`` naming the operation that is given types which it does not take.
    """
    found = [spec.dtype for spec in graph.inputs]
    for node in graph.nodes:
        kinds = node.read(found, tensors)
        try:
            made = types_of(node, kinds)
        except CorruptFileError as error:
            raise CorruptFileError(f"operation {node.op!r} (value {len(found)}): {error}") from None
        found += made
    return found
