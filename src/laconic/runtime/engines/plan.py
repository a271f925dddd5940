"""A network as steps: our kernels run the layers chosen for them, ONNX Runtime runs the nodes between.

Values flow by name. A node belongs to the stage after the last kernel layer that its inputs need, so layers
that read one value (a Transformer's queries, keys and values) end the same stage, and there are as few
sessions as the graph allows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from laconic.errors import EngineError
from laconic.records import AnyArray, FloatArray, Record, record
from laconic.runtime.engines.layers import LinearLayer
from laconic.runtime.engines.session import numpy_type, open_session, run_session
from laconic.runtime.onnx_model.plan import part_of
from laconic.runtime.onnx_model.protos import OWN, OnnxGraph, OnnxNode, OnnxValue

if TYPE_CHECKING:
    import onnxruntime

    from laconic.runtime.kernels import KernelMatrix

Values = MutableMapping[str, AnyArray]


@record
class SessionStep(Record):
    """A part of the graph in ONNX Runtime."""

    session: onnxruntime.InferenceSession
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: tuple[str, ...] = ()

    def run(self, values: Values) -> None:
        """Read the inputs' values, add the outputs'."""
        feed = {name: values[name] for name in self.inputs}
        values.update(zip(self.outputs, run_session(self.session, feed, self.outputs), strict=True))


@record
class KernelStep(Record):
    """A linear layer in one of our own kernels."""

    matrix: KernelMatrix
    bias: FloatArray | None
    relu: bool
    x: str
    y: str

    def run(self, values: Values) -> None:
        """The product, the bias and the ReLU at once."""
        values[self.y] = self.matrix(values[self.x], self.bias, self.relu)


@record
class ViewStep(Record):
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


def whole(graph: OnnxGraph, threads: int | None) -> tuple[list[Step], tuple[str, ...]]:
    """A graph as one session, as ONNX Runtime rewrites it or, where that fails, as it stands; and notes.

    Raises ``EngineError`` where neither runs, ``CorruptFileError`` for a graph that is refused.
    """
    notes: tuple[str, ...] = ()
    try:
        session = open_session(graph, threads)
    except EngineError as error:
        session = open_session(graph, threads, rewritten=False)
        notes = (f"runs as it stands, slower: {error}",)
    inputs, outputs = (tuple([value.name for value in values]) for values in (graph.inputs, graph.outputs))
    return [SessionStep(session, inputs, outputs, tuple(graph.initialisers))], notes


Stage = tuple[list[OnnxNode], list[OnnxNode]]
"""Nodes that run together, and the nodes of layers of our own that come next."""


def stages(graph: OnnxGraph) -> list[Stage]:
    """The graph's nodes by stage, and the layers that end each stage (:class:`~.onnx_model.plan.Part`).

    A node whose outputs nothing reads is left out.
    """
    ready: dict[str, int] = {}
    found: list[Stage] = []
    for node in graph.nodes:
        number = max((ready.get(name, 0) for name in node.inputs), default=0)
        while len(found) <= number:
            found.append(([], []))
        is_layer = node.domain == OWN
        found[number][is_layer].append(node)
        ready.update(dict.fromkeys(node.outputs, number + is_layer))
    return _without_unread(found, {output.name for output in graph.outputs})


def _without_unread(found: list[Stage], outputs: set[str]) -> list[Stage]:
    """Drop nodes whose outputs nothing reads, from the end backwards."""
    read = set(outputs)
    kept = []
    for nodes, layers in reversed(found):
        read.update(layer.inputs[0] for layer in layers)
        read_nodes = []
        for node in reversed(nodes):
            if read.intersection(node.outputs):
                read.update(node.inputs)
                read_nodes.append(node)
        kept.append((read_nodes[::-1], layers))
    return kept[::-1]


class Cutter:
    """Makes the steps of a graph. The types of a session's outputs are those that ONNX Runtime reports.

    Args:
        graph: Its nodes in the domain ``OWN`` are layers in our own kernels.
        threads: Threads of each session; None for one per core.
        layers: The layers of these nodes, with their matrices, by the number of the part.
    """

    def __init__(
        self, graph: OnnxGraph, threads: int | None, layers: Mapping[int, tuple[LinearLayer, KernelMatrix]]
    ) -> None:
        self._graph, self._threads, self._layers = graph, threads, layers
        self._known = {value.name: value for value in graph.inputs}

    def steps(self) -> list[Step]:
        """The whole graph in order."""
        found = stages(self._graph)
        made: list[Step] = []
        for number, (nodes, ends) in enumerate(found):
            if nodes:
                made.append(self._views(nodes) or self._session(nodes, self._read_later(found, number)))
            made += map(self._kernel, ends)
        return made

    def _kernel(self, node: OnnxNode) -> KernelStep:
        layer, matrix = self._layers[part_of(node)]
        (x,), (y,) = node.inputs, node.outputs
        shape = self._known[x].shape
        self._know(y, "float32", None if shape is None else (*shape[:-1], layer.shape[0]))
        return KernelStep(matrix, layer.bias, layer.relu, x, y)

    def _read_later(self, parts: Sequence[Stage], number: int) -> set[str]:
        wanted = {output.name for output in self._graph.outputs}
        wanted.update(layer.inputs[0] for layer in parts[number][1])
        for nodes, layers in parts[number + 1 :]:
            wanted.update(name for node in nodes for name in node.inputs)
            wanted.update(layer.inputs[0] for layer in layers)
        return wanted

    def _views(self, nodes: Sequence[OnnxNode]) -> ViewStep | None:
        stored = self._graph.initialisers
        if any(node.kind not in ("Identity", "Flatten") or node.inputs[0] in stored for node in nodes):
            return None
        axes = [axis if isinstance(axis := node.attrs.get("axis", 1), int) else -1 for node in nodes]
        if min(axes) < 0:
            return None
        for node, axis in zip(nodes, axes, strict=True):
            before = self._known[node.inputs[0]]
            shape = before.shape
            if shape is not None and node.kind == "Flatten":
                shape = (_product(shape[:axis]), _product(shape[axis:]))
            self._know(node.outputs[0], before.dtype, shape)
        return ViewStep(
            tuple((n.kind, n.inputs[0], n.outputs[0], axis) for n, axis in zip(nodes, axes, strict=True))
        )

    def _session(self, nodes: Sequence[OnnxNode], wanted: set[str]) -> SessionStep:
        """One session; it is given the initialisers that its nodes read and no others."""
        made = {name for node in nodes for name in node.outputs}
        read = dict.fromkeys(name for node in nodes for name in node.inputs if name and name not in made)
        weights = {name: self._graph.initialisers[name] for name in read if name in self._graph.initialisers}
        inputs = tuple(name for name in read if name not in weights)
        outputs = tuple(name for node in nodes for name in node.outputs if name in wanted)
        given = tuple(self._known[name] for name in inputs)
        part = OnnxGraph(nodes, given, tuple(map(OnnxValue, outputs)), weights)
        session = open_session(part, self._threads)
        for value in session.get_outputs():
            self._know(value.name, numpy_type(value.type), value.shape or None)  # empty: the rank is unknown
        return SessionStep(session, inputs, outputs, tuple(weights))

    def _know(self, name: str, dtype: str | None, shape: Sequence[int | str | None] | None) -> None:
        """Note a value's type and fixed sizes; sizes known only at a call are None."""
        fixed = None if shape is None else tuple(n if isinstance(n, int) else None for n in shape)
        self._known[name] = OnnxValue(name, dtype, fixed)


def _product(sizes: Sequence[int | str | None]) -> int | None:
    """Entries of these axes; None where a size is free."""
    fixed = [size for size in sizes if isinstance(size, int)]
    return math.prod(fixed) if len(fixed) == len(sizes) else None
