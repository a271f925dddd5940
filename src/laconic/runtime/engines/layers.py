"""Finds the linear layers on stored matrices in a graph, each with the bias and the ReLU behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from laconic.pack.graph.ops import ints_of
from laconic.records import FloatArray, Graph, Node, PackedModel, Tensor
from laconic.runtime.engines.few_bits import (
    PackedImplementation,
    implementations_for,
    own_two_bits,
    packed_nodes,
)
from laconic.runtime.onnx_model.plan import Part, part_of
from laconic.runtime.onnx_model.protos import OWN, OnnxGraph, OnnxNode
from laconic.runtime.ops.shape_rules import Shape

_Readers = Mapping[int, list[tuple[Node, int]]]


class LinearLayer:
    """y = relu(x W^T + b) on a stored matrix W; ``b`` and the ReLU may be absent.

    Args:
        tensor: W, of shape (outputs, inputs).
        part: The steps of the graph that the layer computes.
        bias: b, of shape (outputs,), or None.
        relu: Whether the ReLU belongs to it.
        rows: Rows of x for each sample of a batch.
    """

    def __init__(self, tensor: Tensor, part: Part, bias: Tensor | None, relu: bool, rows: int) -> None:
        self.tensor, self.part, self.relu, self.rows = tensor, part, relu, rows
        self._bias = bias
        self.bias_name = "" if bias is None else bias.name

    @property
    def name(self) -> str:
        """The weight's name."""
        return self.tensor.name

    @cached_property
    def bias(self) -> FloatArray | None:
        """The bias in float32, of shape (outputs,)."""
        return None if self._bias is None else np.ascontiguousarray(self._bias.values(), np.float32)

    @cached_property
    def nonzeros(self) -> int:
        """Entries of the matrix that are not zero."""
        return self.tensor.nonzeros()

    @cached_property
    def fitting(self) -> tuple[PackedImplementation, ...]:
        """The packed implementations that can hold the matrix."""
        return implementations_for(self.tensor)

    @cached_property
    def two_bits(self) -> bool:
        """Whether our own two-bit kernel can hold the matrix."""
        return own_two_bits(self.tensor) is not None

    @property
    def shape(self) -> tuple[int, int]:
        """(outputs, inputs)."""
        rows, cols = self.tensor.shape
        return int(rows), int(cols)


def find_layers(model: PackedModel, shapes: Sequence[Shape]) -> list[LinearLayer]:
    """The linear layers whose matrix is a tensor of the file, in the graph's order.

    A product with a stored matrix that is transposed first, as for tied embeddings, counts as one.

    Args:
        model: A model with a graph.
        shapes: The shape of every value, at any sizes of the free dimensions.

    Returns:
        One layer for each, with a stored bias and a ReLU where nothing else reads the value between.

    >>> from laconic.records import RawTensor, ValueSpec
    >>> nodes = (Node("linear", (0, -1)), Node("relu", (1,)))
    >>> graph = Graph((ValueSpec("float32", (None, 7, 3)),), nodes, (2,))
    >>> model = PackedModel((RawTensor("w", np.ones((5, 3), np.float32)),), graph)
    >>> (layer,) = find_layers(model, [(2, 7, 3), (2, 7, 5), (2, 7, 5)])
    >>> layer.name, layer.relu, layer.rows
    ('w', True, 7)
    """
    graph = model.graph or Graph((), (), ())
    readers = _readers(graph)
    batch = _followed_batch(graph, shapes)
    transposed: dict[int, Tensor] = {}
    found = []
    for node, (value, *_) in graph.numbered():
        x, second = node.inputs[0], node.inputs[1] if len(node.inputs) > 1 else None
        if node.op == "permute" and x is not None and x < 0 and ints_of(node, "perm") == (1, 0):
            transposed[value] = model.tensor(x)
        if x is None or x < 0 or second is None:
            continue
        matrix = None
        if node.op == "linear" and second < 0:
            matrix = model.tensor(second)
        elif node.op == "matmul":
            matrix = transposed.get(second)
        if matrix is not None and len(matrix.shape) == 2:
            rows = max(1, math.prod(shapes[x][:-1]) // batch)
            found.append(_follow(model, node, value, matrix, readers, rows))
    return found


def with_packed(
    graph: OnnxGraph, layers: Mapping[int, tuple[LinearLayer, PackedImplementation]]
) -> OnnxGraph:
    """The graph with packed nodes, a bias and a ReLU in the places of these layers' nodes.

    Args:
        graph: Some of its nodes stand for parts.
        layers: Layers and their implementations, by the number of the part.
    """
    nodes, weights = list[OnnxNode](), dict(graph.initialisers)
    biases: dict[str, str] = {}  # layers may share one
    for node in graph.nodes:
        if node.domain != OWN or part_of(node) not in layers:
            nodes.append(node)
            continue
        layer, implementation = layers[part_of(node)]
        y = node.outputs[0]
        product = f"{y}/product" if layer.bias is not None or layer.relu else y
        new, arrays = packed_nodes(
            layer.tensor, node.inputs[0], product, implementation, f"{y}/{implementation}"
        )
        nodes += new
        weights.update(arrays)
        total = product
        if layer.bias is not None:
            total = f"{y}/sum" if layer.relu else y
            bias = biases.setdefault(layer.bias_name, f"{y}/bias")
            weights[bias] = layer.bias
            nodes.append(OnnxNode("Add", (product, bias), (total,), {}))
        if layer.relu:
            nodes.append(OnnxNode("Relu", (total,), (y,), {}))
    return replace(graph, nodes=nodes, initialisers=weights)


def _follow(
    model: PackedModel, node: Node, value: int, matrix: Tensor, readers: _Readers, rows: int
) -> LinearLayer:
    """A layer with the bias and the ReLU behind it, where nothing else reads the value between."""
    x, own = node.inputs[0] or 0, node.inputs[2] if len(node.inputs) > 2 else None
    bias = _vector(model, own, matrix.shape[0])
    if own is not None and bias is None:
        return LinearLayer(matrix, Part(x, (value,), own), None, False, rows)
    values = [value]
    after = _only_reader(values[-1], readers)
    if bias is None and after is not None and after[0].op == "add":
        others = [ref for ref in after[0].inputs if ref != values[-1]]
        bias = _vector(model, others[0], matrix.shape[0]) if len(others) == 1 else None
        if bias is not None:
            values.append(after[1])
            after = _only_reader(values[-1], readers)
    relu = after is not None and after[0].op == "relu"
    if after is not None and relu:
        values.append(after[1])
    return LinearLayer(matrix, Part(x, tuple(values)), bias, relu, rows)


def _vector(model: PackedModel, ref: int | None, outputs: int) -> Tensor | None:
    """The stored vector of one entry for each output that a reference stands for, if it is one."""
    tensor = model.tensor(ref) if ref is not None and ref < 0 else None
    return tensor if tensor is not None and tensor.shape == (outputs,) else None


def _followed_batch(graph: Graph, shapes: Sequence[Shape]) -> int:
    """The first free size among the inputs, 1 where none is free."""
    sizes = zip(graph.inputs, shapes, strict=False)
    free = [n for spec, shape in sizes for dim, n in zip(spec.shape, shape, strict=True) if dim is None]
    return free[0] if free else 1


def _readers(graph: Graph) -> _Readers:
    """Each value's readers, with the first value that each makes; an output is read outside as well."""
    readers: dict[int, list[tuple[Node, int]]] = {}
    for node, made in graph.numbered():
        for ref in node.inputs:
            if ref is not None:
                readers.setdefault(ref, []).append((node, made[0]))
    for ref in graph.outputs:
        readers.pop(ref, None)
    return readers


def _only_reader(value: int, readers: _Readers) -> tuple[Node, int] | None:
    """The one node that reads a value, and what it makes; None when there are several, or it is an output."""
    found = readers.get(value, [])
    return found[0] if len(found) == 1 else None
