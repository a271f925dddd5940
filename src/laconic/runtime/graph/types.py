"""The numpy type of every value of a graph, and the types that an operation cannot take."""

from __future__ import annotations

from collections.abc import Sequence

from laconic.errors import CorruptFileError
from laconic.pack.graph.ops import text_of
from laconic.records import Graph, Node
from laconic.runtime.ops.element_types import check_element_types

_BOOLEAN = ("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_not")
_WHOLE = ("int64", "int32", "uint8", "int8")


def output_type(node: Node, inputs: Sequence[str]) -> str:
    """The type of a node's first output, given those of its inputs (float32 for an absent one).

    Raises ``CorruptFileError`` for a quotient of integers: PyTorch's is float32, so writers convert before,
    and the runtime's ends the process at -2^63 / -1.

    >>> output_type(Node("argmax", (0,)), ["float32"])
    'int64'
    """
    if node.op in _BOOLEAN:
        return "bool"
    if node.op in ("argmax", "argmin", "size", "arange"):
        return "int64"
    if node.op == "cast":
        return text_of(node, "to")
    if node.op in ("floor_divide", "remainder") and set(inputs) != {"int64"}:
        raise CorruptFileError(f"operation {node.op!r} takes int64, not {' and '.join(inputs)}")
    if node.op == "div" and any(kind in _WHOLE for kind in inputs):
        raise CorruptFileError(f"operation 'div' on {' and '.join(inputs)} needs a cast to float32 before it")
    return inputs[1] if node.op in ("embedding", "where") else inputs[0]


def output_types(node: Node, inputs: Sequence[str]) -> tuple[str, ...]:
    """The types of all outputs of a node.

    >>> output_types(Node("topk", (0,), n_outputs=2), ["float32"])
    ('float32', 'int64')
    """
    first = output_type(node, inputs)
    return (first, "int64") if node.op == "topk" else (first,) * node.n_outputs


def value_types(graph: Graph, tensors: Sequence[str]) -> list[str]:
    """The type of every value; ``tensors`` are those of the file's, as the runtime reads them.

    Raises ``CorruptFileError`` naming the operation that is given types which it does not take.
    """
    found = [spec.dtype for spec in graph.inputs]
    for node in graph.nodes:
        kinds = [
            None if ref is None else found[ref] if ref >= 0 else tensors[-1 - ref] for ref in node.inputs
        ]
        try:
            check_element_types(node, kinds)
        except CorruptFileError as error:
            raise CorruptFileError(f"operation {node.op!r} (value {len(found)}): {error}") from None
        found += output_types(node, [kind or "float32" for kind in kinds])
    return found
