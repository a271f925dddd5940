"""What one call of a network comes to, from its graph alone: a bound on what may be measured at load."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from laconic.pack.limits import Limits
from laconic.records import PackedModel
from laconic.runtime.onnx_build import build
from laconic.runtime.sizes import check_sizes

if TYPE_CHECKING:
    import onnx


class Work(NamedTuple):
    """Multiply-adds, entries that operations write, and entries of the largest value."""

    products: int
    entries: int
    largest: int

    def within(self, most: Work) -> bool:
        """Whether no count is above another's."""
        return all(own <= bound for own, bound in zip(self, most, strict=True))


def work_of(model: PackedModel, batch: int, limits: Limits) -> Work | None:
    """A bound on one call with ``batch`` for every free size; None where some value's rank is unknown.

    Raises as :func:`check_sizes`.

    >>> from laconic.pack.limits import DEFAULT
    >>> from laconic.records import Graph, Node, RawTensor, ValueSpec
    >>> import numpy as np
    >>> graph = Graph((ValueSpec("float32", (None, 3)),), (Node("linear", (0, -1)),), (1,))
    >>> work_of(PackedModel((RawTensor("w", np.ones((2, 3), np.float32)),), graph), 10, DEFAULT)
    Work(products=60, entries=46, largest=30)
    """
    proto, weights = build(model, inline=False)
    inferred = check_sizes(proto, limits)
    shapes: dict[str, tuple[int, ...]] = {name: array.shape for name, array in weights.items()}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        if value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            shapes[value.name] = tuple(d.dim_value if d.HasField("dim_value") else batch for d in dims)
    products = entries = 0
    largest = max((math.prod(shapes[value.name]) for value in inferred.input), default=0)
    for node in proto.graph.node:
        if any(name and name not in shapes for name in (*node.input, *node.output)):
            return None
        products += _products(node, shapes)
        made = [math.prod(shapes[name]) for name in node.output if name]
        entries, largest = entries + sum(made), max(largest, *made)
    return Work(products, entries, largest)


def _products(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Multiply-adds of one node; what is no product counts an entry read as one."""
    given = [shapes[name] for name in node.input if name]
    first, out = math.prod(given[0]) if given else 0, math.prod(shapes[node.output[0]])
    if node.op_type in ("Transpose", "Reshape", "Identity", "Flatten"):
        return 0
    if node.op_type == "Conv":
        return out * math.prod(given[1][1:])
    if node.op_type == "ConvTranspose":
        return first * math.prod(given[1][1:])
    if node.op_type in ("MatMul", "Gemm"):
        return out * (given[0][-1] if given[0] else 1)
    if node.op_type in ("LSTM", "GRU", "RNN"):
        return math.prod(given[0][:-1]) * (math.prod(given[1]) + math.prod(given[2]))
    if node.op_type == "Einsum":
        return max(1, out) * max(map(math.prod, given))
    kernel = next((list(a.ints) for a in node.attribute if a.name == "kernel_shape"), [])
    return out * math.prod(kernel) if kernel else sum(map(math.prod, given))
