"""Which layers of an int8 network multiply in float32, and why."""

from __future__ import annotations

import math

from laconic.records import Graph, PackedModel, Tensor
from laconic.runtime.engines.choice import LayerChoice
from laconic.runtime.graph.steps import Step
from laconic.runtime.int8.schedule import Schedule
from laconic.runtime.int8.transposed import runs_in_float32
from laconic.runtime.ops.table import int8_of

_NO_KERNEL = "float32: the runtime has no int8 kernel for this"
_BY_BATCH = "float32: the runtime's int8 kernel takes its ranges from each batch, not from the file"
_NO_RANGE = "float32: its input or its output has no activation range"
_PRODUCTS = ("matmul", "einsum", "sdpa")
_RECURRENT = {"lstm": _BY_BATCH, "gru": _NO_KERNEL, "rnn": _NO_KERNEL}


def float_layers(model: PackedModel, schedule: Schedule, batch: int) -> list[LayerChoice]:
    """A line for each matrix that an int8 network multiplies by in float32; ``schedule`` is its graph's.

    ONNX Runtime's int8 LSTM (``DynamicQuantizeLSTM``) is faster from 64 units on, but finds the range of all
    states of a batch anew at each step: a sample's result would depend on its neighbours, and differ from
    what devices compute. There is none for GRU and RNN.
    """
    graph = model.graph or Graph((), (), ())
    read = {ref for node in graph.nodes for ref in node.inputs} - set(graph.outputs)
    found: list[LayerChoice] = []
    for step, kind in zip(schedule.steps, schedule.kinds, strict=True):
        reason = _RECURRENT.get(step.node.op)
        if reason is None and step.is_layer:
            source = step.node.inputs[0]
            if kind != "layer":
                reason = _NO_RANGE
            elif step.node.op == "conv_transpose" and source is not None:
                shape, inside = model.tensor(step.node.inputs[1] or -1).shape, step.outputs[0] in read
                reason = _NO_KERNEL if runs_in_float32(step.node, shape, inside) else None
        if reason is not None:
            found.extend(_line(tensor, reason, batch) for tensor in _matrices(step, model))
    return found


def float_products(model: PackedModel) -> int:
    """How many products of two computed values, as in attention, an int8 network takes in float32."""
    graph = model.graph
    if graph is None or not graph.ranges:
        return 0
    computed = (all(ref is None or ref >= 0 for ref in node.inputs[:2]) for node in graph.nodes)
    return sum(node.op in _PRODUCTS and own for node, own in zip(graph.nodes, computed, strict=True))


def _matrices(step: Step, model: PackedModel) -> list[Tensor]:
    """The stored tensors that a layer multiplies by."""
    is_layer = int8_of(step.node) == "layer"
    refs = step.node.inputs[1:2] if is_layer else step.node.inputs
    tensors = [model.tensor(ref) for ref in dict.fromkeys(refs) if ref is not None and ref < 0]
    ranks = range(2, 6) if is_layer else (2,)  # initial states have three
    return [tensor for tensor in tensors if len(tensor.shape) in ranks]


def _line(tensor: Tensor, reason: str, batch: int) -> LayerChoice:
    shape = tensor.shape
    return LayerChoice(
        tensor.name, (shape[0], math.prod(shape[1:])), tensor.nonzeros(), "dense", reason, batch, {}
    )
