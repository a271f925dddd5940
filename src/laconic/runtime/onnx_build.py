"""A packed model's graph as an ONNX ``ModelProto`` (standard operators only)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from laconic.errors import CorruptFileError, FileFormatError, InputError, WeightsOnlyError
from laconic.pack.ops import ints_of, text_of
from laconic.records import ActivationRange, AnyArray, Graph, Node, PackedModel
from laconic.runtime.builder import Builder, Emitter, OnnxNode
from laconic.runtime.emit_int8 import activated, int8_layer, padded, real, rounded, transposed_layer
from laconic.runtime.emit_layers import LAYERS
from laconic.runtime.emit_math import MATH
from laconic.runtime.emit_sequence import SEQUENCES
from laconic.runtime.emit_shapes import ONNX_TYPES, SHAPES, pads_of
from laconic.runtime.fill import filled_channels
from laconic.runtime.int8_weights import filled, integer_layer
from laconic.runtime.precision import Precision, with_precision
from laconic.runtime.steps import Kind, Step, fuse, kind_of, nodes_alone, ranks, spread_ranges

if TYPE_CHECKING:
    import onnx

OPSET = 20
IR_VERSION = 9
MAX_INLINE_BYTES = 2**31 - 2**20
"""Protobuf's 2 GiB, less room for the graph itself."""

BESIDE_BYTES = 4096
"""From this size on the runtime is handed a tensor's own memory instead of a copy in the model."""

EMITTERS: dict[str, Emitter] = {**LAYERS, **SHAPES, **MATH, **SEQUENCES}

_MISFITS = (ValueError, IndexError, TypeError, OverflowError, MemoryError)
_BOOLEAN = ("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_not")


def emit_graph(model: PackedModel) -> tuple[Builder, tuple[str, ...], tuple[str, ...]]:
    """Run every step's emitters: the finished builder, the outputs' names and their numpy types.

    A graph with activation ranges becomes an int8 graph, whose outputs alone are not rounded to int8.

    Raises ``WeightsOnlyError`` when the model has no graph, ``CorruptFileError`` when the graph and
    its tensors contradict each other.
    """
    graph = _graph_of(model)
    plan = _Plan(model, graph)
    for k, spec in enumerate(graph.inputs):
        plan.put_input(k, plan.builder.input_name(k), spec.dtype)
    for step, kind in zip(plan.steps, plan.kinds, strict=True):
        plan.emit(step, kind)
    # a value that leaves by two doors, or that is an input, needs a name of its own
    outputs = tuple(plan.builder.op("Identity", plan.exact.get(r) or plan.name(r)) for r in graph.outputs)
    return plan.builder, outputs, tuple(plan.types[r] for r in graph.outputs)


class _Plan:
    """Names and types of the values emitted so far.

    ``exact`` are those before any rounding, ``integers`` those in uint8, ``names`` what float32 nodes read:
    the same numbers again where a value has a range.
    """

    def __init__(self, model: PackedModel, graph: Graph) -> None:
        self.tensors = model.tensors
        self.builder = Builder(model.tensors, graph.inputs)
        whole = not graph.ranges  # without ranges each node is a step of its own
        self.steps = nodes_alone(graph) if whole else fuse(graph, [r.value for r in graph.ranges])
        self.ranges = spread_ranges(graph, self.steps)
        own = {entry.value for entry in graph.ranges}
        self.kinds = [kind_of(step, self.ranges, own) for step in self.steps]
        self.filled = (
            {} if whole else filled_channels(graph, self.steps, self.kinds, model.tensors, self.ranges)
        )
        self.ranks = {} if whole else ranks(graph)
        self.read = {ref for node in graph.nodes for ref in node.inputs}
        self.names: dict[int, str] = {}
        self.exact: dict[int, str] = {}
        self.integers: dict[int, str] = {}
        self.types: dict[int, str] = {}

    def put(self, value: int, name: str, kind: str, in_integers: bool = False) -> None:
        """Note a value's name, and round it to int8 if it has a range."""
        entry = self.ranges.get(value) if value in self.read else None
        self.types[value] = kind
        if not in_integers:
            self.exact[value] = name
        if entry is not None:
            self.integers[value] = name if in_integers else rounded(self.builder, name, entry)
        elif value in self.ranks:
            self.builder.ranks[name] = self.ranks[value]

    def name(self, value: int) -> str:
        """What float32 nodes read; the way back from integers is written when the first one asks."""
        if value not in self.integers:
            return self.exact[value]
        if value not in self.names:
            self.names[value] = real(self.builder, self.integers[value], self.ranges[value])
            if value in self.ranks:
                self.builder.ranks[self.names[value]] = self.ranks[value]
        return self.names[value]

    def put_input(self, value: int, name: str, kind: str) -> None:
        """Note an input, in as many channels as what reads it wants."""
        entry, extra = self.ranges.get(value), self._extra(value)
        if entry is None or not extra:
            self.put(value, name, kind)
            return
        integers = rounded(self.builder, name, entry)
        self.put(value, padded(self.builder, integers, entry, (0, 0, 0, 0, 0, extra, 0, 0)), kind, True)

    def emit(self, step: Step, kind: Kind) -> None:
        """One step's nodes."""
        source = step.node.inputs[0]
        entry = self.ranges.get(source) if source is not None else None
        in_int8 = step.is_layer and entry is not None
        if step.node.op == "conv_transpose" and kind != "layer":
            in_int8 = False  # files that know of no range behind it were calibrated for float32
        if in_int8 and entry is not None and source is not None:
            with _fitting(step.node.op):
                name, done = self._layer(step, source, entry)
            self.put(step.outputs[0], name, "float32", done)
            return
        if (
            kind == "move"
            and step.node.op == "pad"
            and source is not None
            and self._pads_integers(step, source)
        ):
            self.put(step.outputs[0], self._pad(step, source), "float32", True)
            return
        results, type_name = self._plain(step.node, None)
        if step.norm is not None:
            results, type_name = self._plain(step.norm, results[0])
        if step.activation is not None:
            results, type_name = self._plain(step.activation, results[0])
        for value, name in zip(step.outputs, results, strict=True):
            self.put(value, name, type_name)

    def _extra(self, value: int) -> int:
        return self.filled[value].extra if value in self.filled else 0

    def _layer(self, step: Step, source: int, entry: ActivationRange) -> tuple[str, bool]:
        """A layer on int8 weights, its activation behind it, and whether its output is in integers."""
        out, x = step.outputs[0], self.name(source)
        layer = integer_layer(step, self.tensors, entry.scale)
        if step.node.op == "conv_transpose":
            own = self.ranges.get(out) if out in self.read else None
            return transposed_layer(self.builder, step, x, entry, layer, own)
        columns = self._extra(source)
        if step.node.op == "linear" and columns:  # flattened: so many numbers for each channel
            columns *= layer.weight.shape[1] // self.filled[source].own
        layer = filled(layer, self._extra(out), columns)
        name = int8_layer(self.builder, step, x, entry, layer, self.ranks.get(source) == 2)
        return activated(self.builder, step, name), False

    def _pads_integers(self, step: Step, source: int) -> bool:
        """Zeros around a value of a known rank that is in integers, and will be read so."""
        rank, pads = self.ranks.get(source), ints_of(step.node, "pads")
        known = rank is not None and len(pads) % 2 == 0 and len(pads) <= 2 * rank
        zeros = text_of(step.node, "mode") == "constant"
        return known and zeros and source in self.integers and step.outputs[0] in self.read

    def _pad(self, step: Step, source: int) -> str:
        """Zeros around a value, without a way through float32."""
        pads = pads_of(ints_of(step.node, "pads"), self.ranks[source])
        change = self._extra(step.outputs[0]) - self._extra(source)
        if change:
            pads[len(pads) // 2 + 1] += change
        return padded(self.builder, self.integers[source], self.ranges[source], pads)

    def _plain(self, node: Node, first: str | None) -> tuple[tuple[str, ...], str]:
        """A node in float32; ``first`` is its first input when that is folded away."""
        b = self.builder
        refs = node.inputs if first is None else node.inputs[1:]
        given = tuple("" if r is None else self.name(r) if r >= 0 else b.tensor(-1 - r) for r in refs)
        kinds = [_type_of_input(b, self.types, r) for r in refs]
        if first is not None:
            given, kinds = (first, *given), ["float32", *kinds]
        return _emit(b, node, given), _output_type(node, kinds)


def _graph_of(model: PackedModel) -> Graph:
    if model.graph is None:
        raise WeightsOnlyError(
            "this file holds weights without a graph, so it cannot run by itself. "
            "Cure: fill a module of the same architecture with laconic.restore(path, into=module)"
        )
    return model.graph


def _emit(b: Builder, node: Node, given: tuple[str, ...]) -> tuple[str, ...]:
    emitter = EMITTERS.get(node.op)
    if emitter is None:
        raise CorruptFileError(f"the graph uses {node.op!r}, which this runtime does not know")
    with _fitting(node.op):
        return emitter(b, node, given)


@contextmanager
def _fitting(op: str) -> Iterator[None]:
    """Shapes that no writer puts together are a corrupt file."""
    try:
        yield
    except FileFormatError:
        raise
    except _MISFITS as error:
        raise CorruptFileError(f"operation {op!r} does not fit its tensors: {error}") from error


def _type_of_input(b: Builder, types: Mapping[int, str], ref: int | None) -> str:
    if ref is None:
        return "float32"
    return types[ref] if ref >= 0 else str(b.array(b.tensor(-1 - ref)).dtype)


def _output_type(node: Node, inputs: list[str]) -> str:
    if node.op in _BOOLEAN:
        return "bool"
    if node.op in ("argmax", "argmin"):
        return "int64"
    if node.op == "cast":
        return text_of(node, "to")
    return inputs[1] if node.op in ("embedding", "where") else inputs[0]


def _node_proto(node: OnnxNode) -> onnx.NodeProto:
    from onnx import helper

    attrs: dict[str, Any] = {
        k: list(v) if isinstance(v, (tuple, range)) else v for k, v in node.attrs.items()
    }
    try:
        return helper.make_node(node.kind, list(node.inputs), list(node.outputs), **attrs)
    except _MISFITS as error:  # no integers where there must be some, or too large ones
        raise CorruptFileError(f"a node of kind {node.kind} cannot be built: {error}") from error


def _initialiser(name: str, array: AnyArray, inline: bool) -> onnx.TensorProto:
    """Small tensors travel in the model, where shape inference reads them; large ones beside it."""
    from onnx import numpy_helper

    return (
        numpy_helper.from_array(array, name)
        if inline or array.nbytes < BESIDE_BYTES
        else _external(name, array)
    )


def _external(name: str, array: AnyArray) -> onnx.TensorProto:
    """An initialiser that only names itself: its values are handed to the runtime beside the model."""
    from onnx import TensorProto

    proto = TensorProto(name=name, data_type=ONNX_TYPES[str(array.dtype)], dims=array.shape)
    proto.data_location = TensorProto.EXTERNAL
    proto.external_data.add(key="location", value="memory")
    return proto


def build(model: PackedModel, inline: bool) -> tuple[onnx.ModelProto, dict[str, AnyArray]]:
    """The ONNX model and its initialisers' values; with ``inline`` it holds the large ones, too."""
    from onnx import helper

    b, outputs, types = emit_graph(model)
    graph = _graph_of(model)
    for name, array in b.initialisers.items():
        if str(array.dtype) not in ONNX_TYPES:
            raise CorruptFileError(f"tensor {name!r} has type {array.dtype}, which the graph cannot use")
    initialisers = [_initialiser(name, array, inline) for name, array in b.initialisers.items()]
    inputs = [
        helper.make_tensor_value_info(
            b.input_name(k), ONNX_TYPES[spec.dtype], ["batch" if d is None else d for d in spec.shape]
        )
        for k, spec in enumerate(graph.inputs)
    ]
    results = [
        helper.make_tensor_value_info(n, ONNX_TYPES[t], None) for n, t in zip(outputs, types, strict=True)
    ]
    nodes = [_node_proto(node) for node in b.nodes]
    proto = helper.make_model(
        helper.make_graph(nodes, "laconic", inputs, results, initialisers),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="laconic",
    )
    return proto, b.initialisers


def to_onnx(model: PackedModel, precision: Precision = "fp32") -> onnx.ModelProto:
    """A standard ONNX model (opset 20) with the weights inside, ready for ``onnx.save``.

    ``precision`` "int8" writes a calibrated network with QuantizeLinear and DequantizeLinear.

    Raises ``WeightsOnlyError`` without a graph, ``InputError`` when the weights pass the 2 GiB that
    one protobuf message can hold.

    >>> from laconic.records import Graph, Node, PackedModel, ValueSpec
    >>> graph = Graph((ValueSpec("float32", (None, 4)),), (Node("relu", (0,)),), (1,))
    >>> [node.op_type for node in to_onnx(PackedModel((), graph)).graph.node]
    ['Relu', 'Identity']
    """
    model = with_precision(model, precision)
    size = sum(4 * int(np.prod(np.shape(t.values()))) for t in model.tensors)
    if size > MAX_INLINE_BYTES:
        raise InputError(
            f"the weights take {size} bytes and one ONNX file holds 2 GiB. Cure: laconic.runtime.load runs it"
        )
    from onnx import shape_inference

    # a standard model states its outputs' ranks; ours are known once shapes have flowed through it
    proto = shape_inference.infer_shapes(build(model, inline=True)[0], data_prop=True)
    del proto.graph.value_info[:]
    return proto
