"""Which linear layers of an ONNX graph multiply by a stored matrix, and what follows each at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from laconic.records import AnyArray, IntTensor, Tensor
from laconic.runtime.engines.few_bits import Way, own_two_bits, ways_for
from laconic.runtime.onnx_build import tensor_name

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, eq=False)
class LinearLayer:
    """y = relu(x W^T + b) as the runtime emits it: Transpose, MatMul, and perhaps Add and Relu.

    ``matmul`` is that node's place in the graph, ``nodes`` are the places of all nodes that the layer stands
    for (without the transpose, which others may share), ``x`` and ``y`` the names of its values.
    """

    tensor: Tensor
    x: str
    y: str
    matmul: int
    nodes: tuple[int, ...]
    bias: str | None
    relu: bool

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
        rows, cols = stored(self.tensor).shape
        return int(rows), int(cols)


def stored(tensor: Tensor) -> AnyArray:
    """The array that a tensor keeps: its integers, or the values themselves."""
    return tensor.integers if isinstance(tensor, IntTensor) else tensor.array


def find_layers(
    graph: onnx.GraphProto, weights: Mapping[str, AnyArray], tensors: tuple[Tensor, ...]
) -> list[LinearLayer]:
    """The linear layers whose matrix is a tensor of the file, in the graph's order."""
    by_name = {tensor_name(k): tensor for k, tensor in enumerate(tensors)}
    readers = _readers(graph)
    turned = {
        node.output[0]: by_name[node.input[0]]
        for node in graph.node
        if node.op_type == "Transpose"
        and node.input[0] in by_name
        and stored(by_name[node.input[0]]).ndim == 2
    }
    found = []
    for place, node in enumerate(graph.node):
        if node.op_type == "MatMul" and node.input[1] in turned and node.input[0] not in weights:
            found.append(_follow(graph, place, turned[node.input[1]], weights, readers))
    return found


def _follow(
    graph: onnx.GraphProto,
    place: int,
    tensor: Tensor,
    weights: Mapping[str, AnyArray],
    readers: Mapping[str, list[int]],
) -> LinearLayer:
    """Take in the bias and the ReLU when nobody else reads what lies between."""
    node = graph.node[place]
    nodes, y, bias, relu = [place], node.output[0], None, False
    after = _only_reader(graph, y, readers)
    if after is not None and graph.node[after].op_type == "Add":
        other = [name for name in graph.node[after].input if name != y]
        rows = stored(tensor).shape[0]
        if len(other) == 1 and other[0] in weights and weights[other[0]].shape == (rows,):
            bias, y = other[0], graph.node[after].output[0]
            nodes.append(after)
            after = _only_reader(graph, y, readers)
    if after is not None and graph.node[after].op_type == "Relu":
        relu, y = True, graph.node[after].output[0]
        nodes.append(after)
    return LinearLayer(tensor, node.input[0], y, place, tuple(nodes), bias, relu)


def _readers(graph: onnx.GraphProto) -> dict[str, list[int]]:
    readers: dict[str, list[int]] = {output.name: [-1] for output in graph.output}
    for place, node in enumerate(graph.node):
        for name in node.input:
            readers.setdefault(name, []).append(place)
    return readers


def _only_reader(graph: onnx.GraphProto, name: str, readers: Mapping[str, list[int]]) -> int | None:
    """The one node that reads a value; None when there are none or several, or when it is an output."""
    places = readers.get(name, [])
    return places[0] if len(places) == 1 and places[0] >= 0 else None
