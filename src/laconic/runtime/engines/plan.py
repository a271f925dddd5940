"""A network as steps: ONNX Runtime runs what lies between the layers that our own kernel multiplies.

Values flow by name. A node belongs to the stage after the last kernel layer that its inputs need, so layers
that read one value (a Transformer's queries, keys and values) share a cut, and there are as few sessions as
the graph allows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from laconic.errors import CorruptFileError
from laconic.records import AnyArray, FloatArray
from laconic.runtime.engines.layers import LinearLayer
from laconic.runtime.engines.session import open_session, run_session

if TYPE_CHECKING:
    import onnx
    import onnxruntime

    from laconic.runtime.kernels import KernelMatrix

Values = MutableMapping[str, AnyArray]


class SessionStep(NamedTuple):
    """A part of the graph in ONNX Runtime."""

    session: onnxruntime.InferenceSession
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: tuple[str, ...] = ()

    def run(self, values: Values) -> None:
        """Read the inputs' values, add the outputs'."""
        feed = {name: values[name] for name in self.inputs}
        values.update(zip(self.outputs, run_session(self.session, feed, self.outputs), strict=True))


class KernelStep(NamedTuple):
    """A linear layer in one of our own kernels."""

    matrix: KernelMatrix
    bias: FloatArray | None
    layer: LinearLayer

    def run(self, values: Values) -> None:
        """The product, the bias and the ReLU at once."""
        values[self.layer.y] = self.matrix(values[self.layer.x], self.bias, self.layer.relu)


class ViewStep(NamedTuple):
    """A part of the graph that only gives values another name or shape: too little for a session."""

    nodes: tuple[tuple[str, str, str, int], ...]  # kind, from, to, axis

    def run(self, values: Values) -> None:
        """New names and shapes for the same memory."""
        for kind, before, after, axis in self.nodes:
            x = values[before]
            if kind == "Flatten":
                x = x.reshape(int(np.prod(x.shape[:axis])), int(np.prod(x.shape[axis:])))
            values[after] = x


Step = SessionStep | KernelStep | ViewStep


def stages(
    graph: onnx.GraphProto, layers: Sequence[LinearLayer]
) -> list[tuple[list[onnx.NodeProto], list[LinearLayer]]]:
    """The graph's other nodes by stage, and the layers that end each stage.

    What computes a layer's transposed matrix is left out when no other node reads it.
    """
    taken = {place for layer in layers for place in layer.nodes}
    by_matmul = {layer.matmul: layer for layer in layers}
    ready: dict[str, int] = {}
    found: list[tuple[list[onnx.NodeProto], list[LinearLayer]]] = []

    def stage(number: int) -> tuple[list[onnx.NodeProto], list[LinearLayer]]:
        while len(found) <= number:
            found.append(([], []))
        return found[number]

    for place, node in enumerate(graph.node):
        if place in by_matmul:
            layer = by_matmul[place]
            number = ready.get(layer.x, 0)
            stage(number)[1].append(layer)
            ready[layer.y] = number + 1
        elif place not in taken:
            number = max((ready.get(name, 0) for name in node.input), default=0)
            stage(number)[0].append(node)
            ready.update(dict.fromkeys(node.output, number))
    return _without_unread(found, {output.name for output in graph.output})


def _without_unread(
    found: list[tuple[list[onnx.NodeProto], list[LinearLayer]]], outputs: set[str]
) -> list[tuple[list[onnx.NodeProto], list[LinearLayer]]]:
    """Drop nodes whose outputs nobody reads any more, from the end backwards."""
    read = set(outputs)
    kept = []
    for nodes, layers in reversed(found):
        read.update(layer.x for layer in layers)
        alive = []
        for node in reversed(nodes):
            if read.intersection(node.output):
                read.update(node.input)
                alive.append(node)
        kept.append((alive[::-1], layers))
    return kept[::-1]


def inferred_graph(proto: onnx.ModelProto) -> onnx.GraphProto:
    """The graph with the types and shapes of its values."""
    from onnx import shape_inference

    try:
        return shape_inference.infer_shapes(proto, data_prop=True).graph
    except Exception as error:  # onnx raises errors of its own, and some of protobuf's
        raise CorruptFileError(f"shapes cannot flow through the graph: {error}") from error


class Cutter:
    """Makes the steps of a graph, whose value types ONNX infers; its claims were checked (``build``)."""

    def __init__(self, proto: onnx.ModelProto, weights: Mapping[str, AnyArray], threads: int | None) -> None:
        self._proto, self._weights, self._threads = proto, weights, threads
        inferred = inferred_graph(proto)
        known = [*inferred.input, *inferred.value_info, *inferred.output]
        self._types = {value.name: value.type.tensor_type for value in known}

    def knows_types(self) -> bool:
        """Whether every value has a type, as a cut at it must say; strange graphs leave some open."""
        made = [name for node in self._proto.graph.node for name in node.output if name]
        return all(name in self._types and self._types[name].elem_type for name in made)

    def rows_of(self, name: str) -> int:
        """The rows that a value gives a linear layer for each sample; unknown sizes count as one."""
        found = self._types.get(name)
        dims = found.shape.dim[:-1] if found is not None else ()
        return math.prod(d.dim_value for d in dims if d.dim_value > 0)

    def steps(self, layers: Sequence[LinearLayer], matrices: Mapping[str, KernelMatrix]) -> list[Step]:
        """The whole graph in order; :meth:`knows_types` must hold."""
        parts = stages(self._proto.graph, layers)
        made: list[Step] = []
        for number, (nodes, ends) in enumerate(parts):
            wanted = self._read_later(parts, number)
            if nodes:
                made.append(self._views(nodes) or self._session(nodes, wanted))
            for layer in ends:
                bias = None if layer.bias is None else np.ascontiguousarray(self._weights[layer.bias])
                made.append(KernelStep(matrices[layer.name], bias, layer))
        return made

    def _read_later(
        self, parts: Sequence[tuple[list[onnx.NodeProto], list[LinearLayer]]], number: int
    ) -> set[str]:
        wanted = {output.name for output in self._proto.graph.output}
        wanted.update(layer.x for layer in parts[number][1])
        for nodes, layers in parts[number + 1 :]:
            wanted.update(name for node in nodes for name in node.input)
            wanted.update(layer.x for layer in layers)
        return wanted

    def _views(self, nodes: Sequence[onnx.NodeProto]) -> ViewStep | None:
        if any(
            node.op_type not in ("Identity", "Flatten") or node.input[0] in self._weights for node in nodes
        ):
            return None
        axes = [next((a.i for a in node.attribute if a.name == "axis"), 1) for node in nodes]
        if any(axis < 0 for axis in axes):
            return None
        return ViewStep(
            tuple((n.op_type, n.input[0], n.output[0], axis) for n, axis in zip(nodes, axes, strict=True))
        )

    def _session(self, nodes: Sequence[onnx.NodeProto], wanted: set[str]) -> SessionStep:
        """One session; it is given the initialisers that its nodes read and no others."""
        from onnx import helper

        made = {name for node in nodes for name in node.output}
        read = dict.fromkeys(name for node in nodes for name in node.input if name and name not in made)
        stored = [tensor for tensor in self._proto.graph.initializer if tensor.name in read]
        names = {tensor.name for tensor in stored}
        inputs = tuple(name for name in read if name not in names)
        outputs = tuple(name for node in nodes for name in node.output if name in wanted)
        graph = helper.make_graph(
            list(nodes), "part", [self._value(n) for n in inputs], [self._value(n) for n in outputs], stored
        )
        model = helper.make_model(
            graph, opset_imports=self._proto.opset_import, ir_version=self._proto.ir_version
        )
        weights = {name: self._weights[name] for name in sorted(names)}
        session = open_session(model, weights, self._threads)
        return SessionStep(session, inputs, outputs, tuple(weights))

    def _value(self, name: str) -> onnx.ValueInfoProto:
        """A value's type and fixed sizes; what only a call tells is left open."""
        from onnx import helper

        found = self._types[name]
        shape: list[int | None] | None = None
        if found.HasField("shape"):
            shape = [d.dim_value if d.HasField("dim_value") else None for d in found.shape.dim]
        return helper.make_tensor_value_info(name, found.elem_type, shape)
