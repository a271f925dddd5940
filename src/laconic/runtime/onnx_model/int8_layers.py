"""ONNX emitters for int8: QuantizeLinear and DequantizeLinear around layers, which become int8 kernels.

Activations are uint8 here, as ONNX Runtime's fast x86 kernels take uint8: the file's int8 plus 128. Weights
are int8 with one scale a row. The real numbers are the same as with int8 activations.
"""

from __future__ import annotations

import numpy as np

from laconic.records import ActivationRange
from laconic.runtime.graph.steps import Step
from laconic.runtime.int8.transposed import WIDE_ENOUGH, as_columns, as_convolution, as_phases
from laconic.runtime.int8.weights import IntegerLayer
from laconic.runtime.onnx_model.builder import Builder
from laconic.runtime.ops.layers import conv_attributes, emit_conv_transpose
from laconic.runtime.ops.table import row_of
from laconic.runtime.ops.windows import window_of


def int8_layer(
    b: Builder, step: Step, x: str, entry: ActivationRange, layer: IntegerLayer, gemm: bool
) -> str:
    """A linear layer or convolution on int8 weights with batch normalisation folded in; the bias is int32.

    ``x`` is the input, quantised and dequantised, ``entry`` its range. With ``gemm`` a linear layer is one
    node, which needs a matrix as input and an int8 output; else it is a product and a float32 sum.
    """
    if step.node.op == "linear" and not gemm:
        product = b.op("MatMul", x, b.rows_of(layer.weight.T, layer.scales, axis=1))
        return b.op("Add", product, b.constant(layer.bias.astype(np.float32)))
    units = (np.float32(entry.scale) * layer.scales).astype(np.float32)
    bias = b.rows_of(layer.bias_integers(entry.scale, 32).astype(np.int32), units, axis=0)
    if step.node.op == "linear":
        return b.op("Gemm", x, b.rows_of(layer.weight, layer.scales, axis=0), bias, transB=1)
    attrs = conv_attributes(step.node, layer.weight.ndim)
    return b.op("Conv", x, b.rows_of(layer.weight, layer.scales, axis=0), bias, **attrs)


def transposed_layer(
    b: Builder,
    step: Step,
    x: str,
    entry: ActivationRange,
    layer: IntegerLayer,
    out: ActivationRange | None,
) -> tuple[str, bool]:
    """A transposed convolution on int8 weights and its activation; and whether its output is in integers.

    ONNX Runtime has no int8 kernel for it. One that enlarges images by its stride becomes a convolution
    followed by DepthToSpace, in int8. One of stride 1 becomes a convolution. Others, and those with a
    float32 output (``out`` is None) stay transposed convolutions in float32 on the dequantised int8 weights.
    """
    integers = layer.bias_integers(entry.scale, 32).astype(np.int32)
    units = (np.float32(entry.scale) * layer.scales).astype(np.float32)
    window = window_of(step.node, layer.weight.ndim - 2)
    phases, plain = as_phases(window, layer.weight), as_convolution(window, layer.weight.shape[2:])
    if out is not None and phases is not None and len(phases.weight) >= WIDE_ENOUGH:
        phase_count = phases.stride**2
        bias = b.rows_of(np.repeat(integers, phase_count), np.repeat(units, phase_count), axis=0)
        rows = b.rows_of(phases.weight, np.repeat(layer.scales, phase_count), axis=0)
        sums = activated(b, step, b.op("Conv", x, rows, bias, pads=phases.pads))
        return b.op("DepthToSpace", b.quantised(sums, out), blocksize=phases.stride, mode="CRD"), True
    if out is not None and plain is not None:
        bias, rows = b.rows_of(integers, units, axis=0), b.rows_of(layer.weight, layer.scales, axis=0)
        sums = b.op("Conv", x, rows, bias, **plain)
    else:
        weight = layer.weight * layer.scales.reshape(-1, *(1,) * (layer.weight.ndim - 1))
        own = b.constant(np.ascontiguousarray(as_columns(weight, window.groups), np.float32))
        b.ranks[own] = layer.weight.ndim
        given = (x, own, b.constant((integers * units).astype(np.float32)))
        sums = emit_conv_transpose(b, step.node, given)[0]
    return activated(b, step, sums), False


def activated(b: Builder, step: Step, y: str) -> str:
    """A layer's sums after the activation that is folded into it."""
    if step.activation is None:
        return y
    return row_of(step.activation.op).form(b, step.activation, (y,))[0]
