"""A packed model's graph as ONNX (standard operators only)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from laconic.errors import InputError, WeightsOnlyError
from laconic.pack.wire.limits import DEFAULT, Limits
from laconic.records import Graph, PackedModel, Tensor
from laconic.runtime.graph.sizes import claims, form_of
from laconic.runtime.int8.precision import Precision, with_precision
from laconic.runtime.loading.reading import NO_GRAPH
from laconic.runtime.onnx_model.builder import Builder
from laconic.runtime.onnx_model.plan import Plan, fitting
from laconic.runtime.onnx_model.protos import OnnxGraph, OnnxValue, model_bytes
from laconic.runtime.ops.shape_rules import Shape

if TYPE_CHECKING:
    import onnx

MAX_INLINE_BYTES = 2**31 - 2**20
"""Protobuf's 2 GiB, less room for the graph itself."""

MOST_LETTERS = 256
"""Longer names of tensors are cut in exported models, where each reference repeats them."""


def emit_graph(model: PackedModel) -> tuple[Plan, tuple[str, ...]]:
    """Run every step's emitters: the finished plan, and the outputs' names.

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
    return plan, outputs


def _plan_for(model: PackedModel, graph: Graph) -> Plan:
    if not graph.ranges:
        return Plan(model, graph)
    from laconic.runtime.onnx_model.int8_plan import Int8Plan

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


class Built(NamedTuple):
    """A model as ONNX; ``shapes`` of its values by name, at the free sizes that were followed.

    ``batch`` is the first of these sizes, 1 where none is free.
    """

    graph: OnnxGraph
    shapes: Mapping[str, Shape]
    batch: int

    def rows_of(self, name: str) -> int:
        """The rows that a value gives a linear layer for each sample; a value of unknown shape gives one."""
        return max(1, math.prod(self.shapes.get(name, ())[:-1]) // self.batch)


def build(model: PackedModel, readable: bool = False, limits: Limits = DEFAULT) -> Built:
    """The ONNX graph of a model, with names from the file where it is to be ``readable``.

    What the graph claims is checked before (``runtime/graph/sizes.py``): some passes and kernels of the
    libraries that read the model end the process over sizes that no writer produces.
    """
    graph = _graph_of(model)
    claimed = claims(graph, [form_of(tensor) for tensor in model.tensors], limits).shapes
    plan, outputs = emit_graph(model)
    b = plan.builder
    names = _Names(b, model.tensors, readable)
    axes = {} if readable else {axis: f"n{k}" for k, axis in enumerate(graph.free_axes)}
    inputs = [
        OnnxValue(
            names[b.input_name(k)],
            spec.dtype,
            tuple(axes.get(d, d) if isinstance(d, str) else d for d in spec.sizes),
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
    shapes = {names[name]: claimed[value] for value, name in plan.exact.items()}
    sizes = zip(graph.inputs, claimed, strict=False)
    free = [n for spec, shape in sizes for dim, n in zip(spec.shape, shape, strict=True) if dim is None]
    built = OnnxGraph(nodes, tuple(inputs), tuple(results), arrays)
    return Built(built, shapes, free[0] if free else 1)


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
    size = sum(4 * t.size for t in model.tensors)
    if size > MAX_INLINE_BYTES:
        raise InputError(
            f"the weights take {size} bytes and one ONNX file holds 2 GiB. Cure: laconic.runtime.load runs it"
        )
    from onnx import ModelProto, shape_inference

    proto = ModelProto.FromString(model_bytes(build(model, readable=True, limits=limits).graph, inline=True))
    # a standard model states its outputs' ranks; ours are known once shapes have flowed through it
    proto = shape_inference.infer_shapes(proto, data_prop=True)
    del proto.graph.value_info[:]
    return proto
