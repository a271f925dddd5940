"""A packed model's graph as ONNX (standard operators only)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from laconic.errors import InputError, WeightsOnlyError
from laconic.records import Graph, PackedModel, Tensor
from laconic.records.limits import DEFAULT, Limits
from laconic.runtime.graph.sizes import claims_of
from laconic.runtime.onnx_model.builder import Builder
from laconic.runtime.onnx_model.plan import Part, Plan
from laconic.runtime.onnx_model.protos import OnnxGraph, OnnxValue, model_bytes
from laconic.runtime.ops.shape_rules import fitting
from laconic.runtime.precision import Precision, with_precision
from laconic.runtime.reading import NO_GRAPH

if TYPE_CHECKING:
    import onnx

    from laconic.runtime.int8.schedule import Schedule

MAX_INLINE_BYTES = 2**31 - 2**20
"""Protobuf's limit of 2 GiB, minus 1 MiB for the graph itself."""

MAX_NAME = 256
"""Longer tensor names are cut in exported models, where each reference repeats the name."""


def emit_graph(
    model: PackedModel, parts: Sequence[Part] = (), schedule: Schedule | None = None
) -> tuple[Plan, tuple[str, ...]]:
    """Emit every step: the finished plan, and the outputs' names.

    A graph with a schedule in integer arithmetic becomes an int8 graph, whose outputs stay float32.

    Raises ``WeightsOnlyError`` when the model has no graph, ``CorruptFileError`` when the graph and
    its tensors contradict each other.
    """
    graph = _graph_of(model)
    plan = _plan_for(model, graph, parts, schedule)
    for k, spec in enumerate(graph.inputs):
        plan.put_input(k, plan.builder.input_name(k), spec.dtype)
    for step in plan.steps:
        plan.emit(step)
    # a value that is two outputs, or an input as well, needs a name for each
    outputs = tuple(
        plan.builder.result(k, plan.exact.get(r) or plan.name(r)) for k, r in enumerate(graph.outputs)
    )
    return plan, outputs


def _plan_for(model: PackedModel, graph: Graph, parts: Sequence[Part], schedule: Schedule | None) -> Plan:
    if schedule is None:
        return Plan(model, graph, parts)
    from laconic.runtime.onnx_model.int8_plan import Int8Plan

    with fitting("int8"):
        return Int8Plan(model, graph, schedule)


def _graph_of(model: PackedModel) -> Graph:
    if model.graph is None:
        raise WeightsOnlyError(NO_GRAPH)
    return model.graph


class _Names:
    """Short names for the runtime; for an exported model the file's names, unless they are very long.

    A name in a file may take 32 kB, and 30 000 nodes may refer to it.
    """

    def __init__(self, b: Builder, tensors: Sequence[Tensor], readable: bool) -> None:
        self._found: dict[str, str] = {"": ""}
        if readable:
            taken = {tensor.name for tensor in tensors}
            for k, tensor in enumerate(tensors):
                if len(tensor.name) > MAX_NAME:
                    self._found[tensor.name] = unused(f"{tensor.name[:MAX_NAME]}.{k}", taken)
            return
        self._found.update((tensor.name, f"t{k}") for k, tensor in enumerate(tensors))
        made = (name for node in b.nodes for name in node.outputs)
        inputs = (b.input_name(k) for k in range(len(b.inputs)))
        for name in (*inputs, *b.initialisers, *made):
            self._found.setdefault(name, f"v{len(self._found)}")

    def __getitem__(self, name: str) -> str:
        return self._found.get(name, name)


def unused(name: str, taken: Collection[str]) -> str:
    """The name, with as many underscores at its end as make it unused."""
    while name in taken:
        name += "_"
    return name


def build(
    model: PackedModel,
    parts: Sequence[Part] = (),
    *,
    readable: bool = False,
    schedule: Schedule | None = None,
) -> OnnxGraph:
    """The ONNX graph of a model whose claims were checked (:func:`laconic.runtime.graph.sizes.claims_of`).

    Args:
        model: A model with a graph.
        parts: The steps that nodes of our own replace, in a float32 graph.
        readable: Whether values keep the names of the file.
        schedule: The steps of a graph with activation ranges in integer arithmetic; float32 without.
    """
    graph = _graph_of(model)
    plan, outputs = emit_graph(model, parts, schedule)
    b = plan.builder
    names = _Names(b, model.tensors, readable)
    axes = {} if readable else {axis: f"n{k}" for k, axis in enumerate(graph.free_axes)}
    inputs = [
        OnnxValue(
            names[b.input_name(k)],
            spec.dtype,
            tuple([axes.get(d, d) if isinstance(d, str) else d for d in spec.sizes]),
        )
        for k, spec in enumerate(graph.inputs)
    ]
    results = [OnnxValue(names[n], plan.types[r]) for n, r in zip(outputs, graph.outputs, strict=True)]
    nodes = [
        node._replace(
            inputs=tuple([names[n] for n in node.inputs]), outputs=tuple([names[n] for n in node.outputs])
        )
        for node in b.nodes
    ]
    arrays = {names[name]: array for name, array in b.initialisers.items()}
    return OnnxGraph(nodes, tuple(inputs), tuple(results), arrays)


def to_onnx(
    model: PackedModel, precision: Precision = "fp32", *, limits: Limits = DEFAULT
) -> onnx.ModelProto:
    """A standard ONNX model (opset 20) with the weights inside, ready for ``onnx.save``.

    Args:
        model: The records, with a graph. Names of over 256 letters are cut.
        precision: "fp32", or "int8" for a calibrated network with QuantizeLinear and DequantizeLinear nodes;
            "auto" is "int8" where the model has activation ranges.
        limits: What the graph may claim.

    Returns:
        The model as the package ``onnx`` holds it.

    Raises:
        WeightsOnlyError: Without a graph.
        InputError: For int8 without calibration, or above the 2 GiB that one protobuf message can hold.
        CorruptFileError: For a graph that contradicts its tensors.
        LimitError: Beyond the limits.

    >>> from laconic.records import Graph, Node, PackedModel, ValueSpec
    >>> graph = Graph((ValueSpec("float32", (None, 4)),), (Node("relu", (0,)),), (1,))
    >>> [node.op_type for node in to_onnx(PackedModel((), graph)).graph.node]
    ['Relu', 'Identity']
    """
    model = with_precision(model, precision)
    claims_of(model, limits)
    if model.graph is None or not model.graph.ranges:
        return standard_model(model)
    from laconic.runtime.int8.schedule import schedule_of

    return standard_model(model, schedule_of(model.graph))


def standard_model(model: PackedModel, schedule: Schedule | None = None) -> onnx.ModelProto:
    """A standard ONNX model of records whose claims were checked (see :func:`to_onnx`).

    Args:
        model: A model with a graph.
        schedule: As for :func:`build`.
    """
    size = sum(4 * t.size for t in model.tensors)
    if size > MAX_INLINE_BYTES:
        raise InputError(
            f"the weights take {size} bytes and one ONNX file holds 2 GiB. Cure: laconic.runtime.load runs it"
        )
    graph = build(model, readable=True, schedule=schedule)
    from onnx import ModelProto, shape_inference

    proto = ModelProto.FromString(model_bytes(graph, inline=True))
    # a standard model states its outputs' ranks, which shape inference finds
    proto = shape_inference.infer_shapes(proto, data_prop=True)
    del proto.graph.value_info[:]
    return proto
