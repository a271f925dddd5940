"""The numpy type of every value of a graph, and the types that an operation cannot take."""

from __future__ import annotations

from collections.abc import Sequence

from laconic.errors import CorruptFileError
from laconic.records import Graph, Node
from laconic.runtime.ops.element_types import check_element_types
from laconic.runtime.ops.table import row_of


def output_type(node: Node, inputs: Sequence[str]) -> str:
    """The type of a node's first output, given those of its inputs (float32 for an absent one).

    >>> output_type(Node("argmax", (0,)), ["float32"])
    'int64'
    """
    return output_types(node, inputs)[0]


def output_types(node: Node, inputs: Sequence[str]) -> tuple[str, ...]:
    """The types of all outputs of a node (column ``result`` of the table).

    Raises ``CorruptFileError`` for types of which the operation makes nothing.

    >>> output_types(Node("topk", (0,), n_outputs=2), ["float32"])
    ('float32', 'int64')
    """
    return row_of(node.op).result(node, inputs)


def value_types(graph: Graph, tensors: Sequence[str]) -> list[str]:
    """The type of every value; ``tensors`` are those of the file's, as the runtime reads them.

    Raises ``CorruptFileError`` naming the operation that is given types which it does not take.
    """
    found = [spec.dtype for spec in graph.inputs]
    for node in graph.nodes:
        kinds = node.read(found, tensors)
        try:
            check_element_types(node, kinds)
        except CorruptFileError as error:
            raise CorruptFileError(f"operation {node.op!r} (value {len(found)}): {error}") from None
        found += output_types(node, [kind or "float32" for kind in kinds])
    return found
