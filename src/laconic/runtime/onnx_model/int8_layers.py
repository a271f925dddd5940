"""Each layer on int8 weights as the ONNX node that runs it, with all that the node holds.

Activations are uint8 here, as ONNX Runtime's fast x86 kernels take uint8: the file's int8 plus 128. Weights
are int8 with one scale a row. The real numbers are the same as with int8 activations.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from laconic.records import AnyArray, FloatArray, Tensor
from laconic.runtime.graph.steps import Step
from laconic.runtime.int8.filling import Channels
from laconic.runtime.int8.schedule import Schedule
from laconic.runtime.int8.transposed import WIDE_ENOUGH, as_columns, as_convolution, as_phases
from laconic.runtime.int8.weights import LayerPlan, filled, integer_layer, plan_layer
from laconic.runtime.onnx_model.protos import OnnxAttr
from laconic.runtime.ops.shape_rules import fitting
from laconic.runtime.ops.windows import Window


class LayerForm(NamedTuple):
    """The ONNX node that runs a layer, and what it reads beside its input.

    Attributes:
        kind: MatMul (with an Add behind it), Gemm, Conv or ConvTranspose.
        weight: int8 with scales; float32 without.
        scales: One for each row of the weight (for each column of MatMul's).
        bias: int32 with units; float32 without.
        units: What one unit of each bias is, input scale times the row's scale.
        attrs: The node's attributes.
        phases: The stride of the phases that the output channels hold, which DepthToSpace takes apart.
    """

    kind: str
    weight: AnyArray
    scales: FloatArray | None
    bias: AnyArray
    units: FloatArray | None
    attrs: Mapping[str, OnnxAttr]
    phases: int | None = None


def layer_forms(
    schedule: Schedule, tensors: Sequence[Tensor], channels: Mapping[int, Channels], read: Collection[int]
) -> dict[int, LayerForm]:
    """The layers that run on int8 weights, by their first output.

    Args:
        schedule: The steps of a graph in integer arithmetic.
        tensors: The tensors of the file.
        channels: The values whose channels are padded with zeros.
        read: The values with a range that a node reads.
    """
    found: dict[int, LayerForm] = {}
    for step, kind in zip(schedule.steps, schedule.kinds, strict=True):
        source, out = step.node.inputs[0], step.outputs[0]
        if not step.is_layer or source is None or source not in schedule.ranges:
            continue
        transposed = step.node.op == "conv_transpose"
        if transposed and kind != "layer":
            continue  # files without a range for its output were calibrated for float32
        scale = schedule.ranges[source].scale
        with fitting(step.node.op):
            layer = integer_layer(step, tensors, scale)
            if not transposed:
                columns = channels[source].extra if source in channels else 0
                if step.node.op == "linear" and columns:  # flattened: several columns for each channel
                    columns *= layer.weight.shape[1] // channels[source].own
                layer = filled(layer, channels[out].extra if out in channels else 0, columns)
            found[out] = _form(step, plan_layer(layer, scale), schedule.ranks.get(source) == 2, out in read)
    return found


def _form(step: Step, plan: LayerPlan, is_matrix: bool, in_integers: bool) -> LayerForm:
    """The node of a layer with batch normalisation folded in; the bias is int32.

    A linear layer whose input ``is_matrix`` is one node, which needs an int8 output; else it is a product and
    a float32 sum.
    """
    layer, bias, units = plan
    if layer.window is not None and step.node.op == "conv_transpose":
        return _transposed(plan, layer.window, in_integers)
    if layer.window is not None:
        return LayerForm("Conv", layer.weight, layer.scales, bias, units, layer.window.attributes())
    if is_matrix:
        return LayerForm("Gemm", layer.weight, layer.scales, bias, units, {"transB": 1})
    return LayerForm("MatMul", layer.weight.T, layer.scales, layer.bias.astype(np.float32), None, {})


def _transposed(plan: LayerPlan, window: Window, in_integers: bool) -> LayerForm:
    """A transposed convolution on int8 weights.

    ONNX Runtime has no int8 kernel for it. One that enlarges images by its stride becomes a convolution whose
    output goes through DepthToSpace, in int8. One of stride 1 becomes a convolution. Others, and those with a
    float32 output (not ``in_integers``) stay transposed convolutions in float32 on the dequantised int8
    weights.
    """
    layer, integers, units = plan
    phases, plain = as_phases(window, layer.weight), as_convolution(window, layer.weight.shape[2:])
    if in_integers and phases is not None and len(phases.weight) >= WIDE_ENOUGH:
        count, pads = phases.stride**2, {"pads": phases.pads}
        scales, bias, units = layer.scales.repeat(count), integers.repeat(count), units.repeat(count)
        return LayerForm("Conv", phases.weight, scales, bias, units, pads, phases.stride)
    if in_integers and plain is not None:
        return LayerForm("Conv", layer.weight, layer.scales, integers, units, plain)
    weight = layer.weight * layer.scales.reshape(-1, *(1,) * (layer.weight.ndim - 1))
    columns = np.ascontiguousarray(as_columns(weight, window.groups), np.float32)
    bias = (integers * units).astype(np.float32)
    return LayerForm("ConvTranspose", columns, None, bias, None, window.attributes())
