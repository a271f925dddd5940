"""A packed model's graph as an ONNX ``ModelProto`` (standard operators only)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from laconic.errors import CorruptFileError, InputError, WeightsOnlyError
from laconic.pack.limits import DEFAULT, Limits
from laconic.records import AnyArray, Graph, PackedModel, Tensor
from laconic.runtime.builder import Builder, OnnxNode
from laconic.runtime.emit import Plan, fitting
from laconic.runtime.emit_shapes import ONNX_TYPES
from laconic.runtime.precision import Precision, with_precision
from laconic.runtime.shapes.common import MISFITS
from laconic.runtime.sizes import claims, form_of

if TYPE_CHECKING:
    import onnx

OPSET = 20
IR_VERSION = 9
MAX_INLINE_BYTES = 2**31 - 2**20
"""Protobuf's 2 GiB, less room for the graph itself."""

BESIDE_BYTES = 4096
"""From this size on the runtime is handed a tensor's own memory instead of a copy in the model."""


NO_GRAPH = (
    "this file holds weights without a graph, so it cannot run by itself. "
    "Cure: fill a module of the same architecture with laconic.restore(path, into=module)"
)

MOST_LETTERS = 256
"""Longer names of tensors are cut in exported models, where each reference repeats them."""


def emit_graph(model: PackedModel) -> tuple[Builder, tuple[str, ...], tuple[str, ...]]:
    """Run every step's emitters: the finished builder, the outputs' names and their numpy types.

    A graph with activation ranges becomes an int8 graph, whose outputs alone are not rounded to int8.

    Raises ``WeightsOnlyError`` when the model has no graph, ``CorruptFileError`` when the graph and
    its tensors contradict each other.
    """
    graph = _graph_of(model)
    plan = _plan_for(model, graph)
    for k, spec in enumerate(graph.inputs):
        plan.put_input(k, plan.builder.input_name(k), spec.dtype)
    for step in plan.steps:
        plan.emit(step)
    # a value that leaves by two doors, or that is an input, needs a name of its own
    outputs = tuple(
        plan.builder.result(k, plan.exact.get(r) or plan.name(r)) for k, r in enumerate(graph.outputs)
    )
    return plan.builder, outputs, tuple(plan.types[r] for r in graph.outputs)


def _plan_for(model: PackedModel, graph: Graph) -> Plan:
    if not graph.ranges:
        return Plan(model, graph)
    from laconic.runtime.int8_build import Int8Plan

    with fitting("int8"):
        return Int8Plan(model, graph)


def _graph_of(model: PackedModel) -> Graph:
    if model.graph is None:
        raise WeightsOnlyError(NO_GRAPH)
    return model.graph


def tensor_name(index: int) -> str:
    """What the runtime's model calls a tensor of the file: a node may read a name of 32 kB 30 000 times."""
    return f"t{index}"


class _Names:
    """Short names for the runtime; those of the file, unless they are very long, for an exported model."""

    def __init__(self, b: Builder, tensors: Sequence[Tensor], readable: bool) -> None:
        self._found: dict[str, str] = {"": ""}
        if readable:
            taken = {tensor.name for tensor in tensors}
            for k, tensor in enumerate(tensors):
                if len(tensor.name) > MOST_LETTERS:
                    self._found[tensor.name] = unused(f"{tensor.name[:MOST_LETTERS]}.{k}", taken)
            return
        self._found.update((tensor.name, tensor_name(k)) for k, tensor in enumerate(tensors))
        made = (name for node in b.nodes for name in node.outputs)
        inputs = (b.input_name(k) for k in range(len(b.inputs)))
        for name in (*inputs, *b.initialisers, *made):
            self._found.setdefault(name, f"v{len(self._found)}")

    def __getitem__(self, name: str) -> str:
        return self._found.get(name, name)


def unused(name: str, taken: Collection[str]) -> str:
    """The name, with underscores behind until it is not taken."""
    while name in taken:
        name += "_"
    return name


def _node_proto(node: OnnxNode, names: _Names) -> onnx.NodeProto:
    from onnx import helper

    attrs: dict[str, Any] = {
        k: list(v) if isinstance(v, (tuple, range)) else v for k, v in node.attrs.items()
    }
    try:
        inputs, outputs = ([names[name] for name in some] for some in (node.inputs, node.outputs))
        return helper.make_node(node.kind, inputs, outputs, **attrs)
    except MISFITS as error:  # no integers where there must be some, or too large ones
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


def build(
    model: PackedModel, inline: bool, limits: Limits = DEFAULT
) -> tuple[onnx.ModelProto, dict[str, AnyArray]]:
    """The ONNX model and its initialisers' values; with ``inline`` it holds the large ones, too.

    What the graph claims is checked before (``runtime.sizes``): shape inference and some kernels of the
    libraries that read the model end the process over sizes that no writer produces.
    """
    graph = _graph_of(model)
    claims(graph, [form_of(tensor) for tensor in model.tensors], limits)
    from onnx import helper

    b, outputs, types = emit_graph(model)
    for name, array in b.initialisers.items():
        if str(array.dtype) not in ONNX_TYPES:
            raise CorruptFileError(f"tensor {name!r} has type {array.dtype}, which the graph cannot use")
    names = _Names(b, model.tensors, readable=inline)
    arrays = {names[name]: array for name, array in b.initialisers.items()}
    initialisers = [_initialiser(name, array, inline) for name, array in arrays.items()]
    axes = {} if inline else {axis: f"n{k}" for k, axis in enumerate(graph.free_axes)}
    inputs = [
        helper.make_tensor_value_info(
            names[b.input_name(k)],
            ONNX_TYPES[spec.dtype],
            [axes.get(d, d) if isinstance(d, str) else d for d in spec.sizes],
        )
        for k, spec in enumerate(graph.inputs)
    ]
    results = [
        helper.make_tensor_value_info(names[n], ONNX_TYPES[t], None)
        for n, t in zip(outputs, types, strict=True)
    ]
    nodes = [_node_proto(node, names) for node in b.nodes]
    proto = helper.make_model(
        helper.make_graph(nodes, "laconic", inputs, results, initialisers),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="laconic",
    )
    return proto, arrays


def to_onnx(
    model: PackedModel, precision: Precision = "fp32", *, limits: Limits = DEFAULT
) -> onnx.ModelProto:
    """A standard ONNX model (opset 20) with the weights inside, ready for ``onnx.save``.

    ``precision`` "int8" writes a calibrated network with QuantizeLinear and DequantizeLinear.

    ``limits`` bounds what the graph may claim. Names of over 256 letters are cut.

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
    proto = shape_inference.infer_shapes(build(model, inline=True, limits=limits)[0], data_prop=True)
    del proto.graph.value_info[:]
    return proto
