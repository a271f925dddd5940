"""Which linear layers of an ONNX graph multiply by a stored matrix, and what follows each at once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from laconic.records import Tensor
from laconic.runtime.engines.few_bits import Way, own_two_bits, ways_for
from laconic.runtime.onnx_model.model import tensor_name
from laconic.runtime.onnx_model.protos import OnnxGraph


class LinearLayer:
    """y = relu(x W^T + b) as the runtime emits it: Transpose, MatMul, and perhaps Add and Relu.

    ``matmul`` is that node's place in the graph, ``nodes`` are the places of all nodes that the layer stands
    for (without the transpose, which others may share), ``x`` and ``y`` the names of its values.
    """

    def __init__(
        self, tensor: Tensor, x: str, y: str, nodes: tuple[int, ...], bias: str | None, relu: bool
    ) -> None:
        self.tensor, self.x, self.y, self.bias, self.relu = tensor, x, y, bias, relu
        self.nodes, self.matmul = nodes, nodes[0]

    @property
    def name(self) -> str:
        """The weight's name."""
        return self.tensor.name

    @cached_property
    def nonzeros(self) -> int:
        """Entries of the matrix that are not zero."""
        return self.tensor.nonzeros()

    @cached_property
    def fitting(self) -> tuple[Way, ...]:
        """The ways of few bits that the matrix fits."""
        return ways_for(self.tensor)

    @cached_property
    def two_bits(self) -> bool:
        """Whether our own two-bit kernel can hold the matrix."""
        return own_two_bits(self.tensor) is not None

    @property
    def shape(self) -> tuple[int, int]:
        """(outputs, inputs)."""
        rows, cols = self.tensor.shape
        return int(rows), int(cols)


def find_layers(graph: OnnxGraph, tensors: tuple[Tensor, ...]) -> list[LinearLayer]:
    """The linear layers whose matrix is a tensor of the file, in the graph's order."""
    by_name = {tensor_name(k): tensor for k, tensor in enumerate(tensors)}
    readers = _readers(graph)
    turned = {
        node.outputs[0]: by_name[node.inputs[0]]
        for node in graph.nodes
        if node.kind == "Transpose" and node.inputs[0] in by_name and len(by_name[node.inputs[0]].shape) == 2
    }
    found = []
    for place, node in enumerate(graph.nodes):
        if node.kind == "MatMul" and node.inputs[1] in turned and node.inputs[0] not in graph.initialisers:
            found.append(_follow(graph, place, turned[node.inputs[1]], readers))
    return found


def _follow(graph: OnnxGraph, place: int, tensor: Tensor, readers: Mapping[str, list[int]]) -> LinearLayer:
    """Take in the bias and the ReLU when nobody else reads what lies between."""
    node, weights = graph.nodes[place], graph.initialisers
    nodes, y, bias, relu = [place], node.outputs[0], None, False
    after = _only_reader(y, readers)
    if after is not None and graph.nodes[after].kind == "Add":
        other = [name for name in graph.nodes[after].inputs if name != y]
        rows = tensor.shape[0]
        if len(other) == 1 and other[0] in weights and weights[other[0]].shape == (rows,):
            bias, y = other[0], graph.nodes[after].outputs[0]
            nodes.append(after)
            after = _only_reader(y, readers)
    if after is not None and graph.nodes[after].kind == "Relu":
        relu, y = True, graph.nodes[after].outputs[0]
        nodes.append(after)
    return LinearLayer(tensor, node.inputs[0], y, tuple(nodes), bias, relu)


def _readers(graph: OnnxGraph) -> dict[str, list[int]]:
    readers: dict[str, list[int]] = {output.name: [-1] for output in graph.outputs}
    for place, node in enumerate(graph.nodes):
        for name in node.inputs:
            readers.setdefault(name, []).append(place)
    return readers


def _only_reader(name: str, readers: Mapping[str, list[int]]) -> int | None:
    """The one node that reads a value; None when there are none or several, or when it is an output."""
    places = readers.get(name, [])
    return places[0] if len(places) == 1 and places[0] >= 0 else None
