"""A graph at one input shape: operations on its free sizes become constants before anything runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from laconic.pack.graph.ops import SIZED
from laconic.records import AnyArray, Node, PackedModel, RawTensor, Tensor, tensor_ref
from laconic.runtime.graph.shapes import input_shapes, walk
from laconic.runtime.graph.sizes import form_of, numbers_of


def at_sizes(model: PackedModel) -> PackedModel:
    """The model, whose inputs have fixed shapes, without operations on sizes.

    ``size``, ``arange`` and the arithmetic between become new tensors, read by ``identity`` nodes,
    and sizes among inputs become attributes. Every value keeps its id.

    Raises ``CorruptFileError`` for shapes that do not fit, or sizes that depend on the values of inputs.
    """
    graph = model.graph
    if graph is None or not any(map(_has_sizes, graph.nodes)):
        return model
    forms = [form_of(tensor) for tensor in model.tensors]
    found = walk(graph, [form.shape for form in forms], input_shapes(graph, 1), numbers_of(forms))
    tensors: list[Tensor] = list(model.tensors)
    nodes = []
    for node, outputs in replace(graph, nodes=tuple(found.nodes)).numbered():
        value = outputs[0]
        constant = _constant(node, value, found.numbers, found.shapes[value])
        if constant is not None:
            node = Node("identity", (tensor_ref(len(tensors)),))
            tensors.append(RawTensor(f"size/{len(tensors)}", constant))
        elif node.op in SIZED:
            node = replace(node, inputs=node.inputs[:1])
        nodes.append(node)
    return replace(model, tensors=tuple(tensors), graph=replace(graph, nodes=tuple(nodes)))


def _has_sizes(node: Node) -> bool:
    """Whether a node still reads or computes with a size."""
    return node.op in ("size", "arange") or (node.op in SIZED and len(node.inputs) > 1)


def _constant(node: Node, value: int, numbers: dict[int, int], shape: tuple[int, ...]) -> AnyArray | None:
    """The constant that a node computes from sizes; None for any other node."""
    if node.op == "arange":
        return np.arange(shape[0], dtype=np.int64)
    if node.op == "identity" or value not in numbers:
        return None
    return np.asarray(numbers[value], dtype=np.int64)
