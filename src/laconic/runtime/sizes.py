"""How large a graph's values may get: claims of a few bytes must not fill the memory when they are loaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from laconic.errors import CorruptFileError
from laconic.pack.limits import Limits

if TYPE_CHECKING:
    import onnx


def check_sizes(proto: onnx.ModelProto, limits: Limits) -> onnx.GraphProto:
    """The graph with the shapes of its values; those known beforehand and beyond the limits are refused.

    ONNX Runtime computes what depends on weights alone while it loads: those values together may have as
    many entries as the weights and ``limits.constants`` more. Any other may have ``limits.elements``.

    Raises ``LimitError``; ``CorruptFileError`` when shapes cannot be followed through the graph.
    """
    from onnx import shape_inference

    try:
        inferred = shape_inference.infer_shapes(proto, data_prop=True)
    except Exception as error:  # onnx raises errors of its own, and some of protobuf's
        raise CorruptFileError(f"shapes cannot flow through the graph: {error}") from error
    sizes = {value.name: _elements(value) for value in inferred.graph.value_info}
    limits.check("elements in one value of the graph", max(sizes.values(), default=0), limits.elements)
    weights = sum(math.prod(tensor.dims) for tensor in proto.graph.initializer)
    fixed = {"", *(tensor.name for tensor in proto.graph.initializer)}
    known = {
        v.name: v.type.tensor_type.shape.dim for v in (*inferred.graph.value_info, *inferred.graph.input)
    }
    folded = 0
    for node in proto.graph.node:
        if node.op_type == "Shape" and _is_known(node, known.get(node.input[0], ())):
            fixed.update(node.output)
        if node.op_type == "Range" and fixed.issuperset(node.input):
            raise CorruptFileError("the graph counts up to a number that it could state as a tensor")
        if fixed.issuperset(node.input):
            fixed.update(node.output)
            if node.op_type not in _REARRANGED:
                folded += sum(sizes.get(name, 0) for name in node.output)
    limits.check("elements computed from weights alone", folded - weights, limits.constants)
    return inferred.graph


def _is_known(node: onnx.NodeProto, dims: Sequence[onnx.TensorShapeProto.Dimension]) -> bool:
    """Whether the sizes that a Shape node reads are known before any call."""
    at = {attribute.name: attribute.i for attribute in node.attribute}
    read = list(dims)[at.get("start", 0) : at.get("end", len(dims))]
    return bool(dims) and all(dim.HasField("dim_value") for dim in read)


_REARRANGED = ("Transpose", "Reshape", "Identity", "Squeeze", "Unsqueeze", "Flatten", "Cast")


def _elements(value: onnx.ValueInfoProto) -> int:
    """Entries of a value, a size that only a call tells counting as one."""
    dims = value.type.tensor_type.shape.dim
    return math.prod(dim.dim_value if dim.HasField("dim_value") else 1 for dim in dims)
