"""ONNX nodes of layers on int8 weights: DequantizeLinear before them, which ONNX Runtime turns into kernels.

Activations are uint8 here, as ONNX Runtime's fast x86 kernels take uint8: the file's int8 plus 128. Weights
are int8 with one scale a row. The real numbers are the same as with int8 activations.
"""

from __future__ import annotations

import numpy as np

from laconic.runtime.int8.transposed import WIDE_ENOUGH, as_columns, as_convolution, as_phases
from laconic.runtime.int8.weights import LayerPlan
from laconic.runtime.onnx_model.builder import Builder
from laconic.runtime.ops.windows import Window


def int8_layer(b: Builder, x: str, plan: LayerPlan, gemm: bool) -> str:
    """A linear layer or convolution on int8 weights with batch normalisation folded in; the bias is int32.

    ``x`` is the input, quantised and dequantised. With ``gemm`` a linear layer is one node, which needs a
    matrix as input and an int8 output; else it is a product and a float32 sum.
    """
    layer = plan.layer
    if layer.window is None and not gemm:
        product = b.op("MatMul", x, b.rows_of(layer.weight.T, layer.scales, axis=1))
        return b.op("Add", product, b.constant(layer.bias.astype(np.float32)))
    bias = b.rows_of(plan.bias, plan.units, axis=0)
    rows = b.rows_of(layer.weight, layer.scales, axis=0)
    if layer.window is None:
        return b.op("Gemm", x, rows, bias, transB=1)
    return b.op("Conv", x, rows, bias, **layer.window.attributes())


def transposed_layer(
    b: Builder, x: str, plan: LayerPlan, window: Window, in_integers: bool
) -> tuple[str, int | None]:
    """A transposed convolution on int8 weights, and the stride of the phases that its channels hold, if any.

    ONNX Runtime has no int8 kernel for it. One that enlarges images by its stride becomes a convolution whose
    output goes through DepthToSpace, in int8. One of stride 1 becomes a convolution. Others, and those with a
    float32 output (not ``in_integers``) stay transposed convolutions in float32 on the dequantised int8
    weights.
    """
    layer, integers, units = plan
    phases, plain = as_phases(window, layer.weight), as_convolution(window, layer.weight.shape[2:])
    phases = phases if in_integers and phases is not None and len(phases.weight) >= WIDE_ENOUGH else None
    if phases is None and (plain is None or not in_integers):
        weight = layer.weight * layer.scales.reshape(-1, *(1,) * (layer.weight.ndim - 1))
        columns = np.ascontiguousarray(as_columns(weight, window.groups), np.float32)
        own = b.constant(columns)
        bias = b.constant((integers * units).astype(np.float32))
        return b.op("ConvTranspose", x, own, bias, **window.attributes()), None
    if phases is None:
        bias, rows = b.rows_of(integers, units, axis=0), b.rows_of(layer.weight, layer.scales, axis=0)
        return b.op("Conv", x, rows, bias, **(plain or {})), None
    count = phases.stride**2
    bias = b.rows_of(np.repeat(integers, count), np.repeat(units, count), axis=0)
    rows = b.rows_of(phases.weight, np.repeat(layer.scales, count), axis=0)
    return b.op("Conv", x, rows, bias, pads=phases.pads), phases.stride
