"""ONNX emitters for int8: QuantizeLinear and DequantizeLinear around layers, which become int8 kernels.

Activations are uint8 here (ONNX Runtime's fast kernels on x86), the file's int8 plus 128; weights are int8
with one scale a row. The numbers are the same either way.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from laconic.records import ActivationRange, AnyArray, FloatArray, Tensor
from laconic.runtime.builder import Builder
from laconic.runtime.emit_layers import window
from laconic.runtime.int8_weights import integer_layer
from laconic.runtime.steps import Step


def through_int8(b: Builder, name: str, entry: ActivationRange) -> str:
    """A value rounded to its range: the name of what comes out, still float32."""
    scale = b.scalar(entry.scale)
    zero = b.constant(np.asarray(entry.zero_point + 128, dtype=np.uint8))
    return b.op("DequantizeLinear", b.op("QuantizeLinear", name, scale, zero), scale, zero)


def int8_layer(
    b: Builder, step: Step, x: str, entry: ActivationRange, tensors: Sequence[Tensor], gemm: bool
) -> str:
    """A linear layer or convolution on int8 weights, its batch normalisation in them; the bias is int32.

    ``x`` is the input after :func:`through_int8`, ``entry`` its range. With ``gemm`` a linear layer is one
    node, which wants a matrix and an output in int8; else it is a product and a float32 sum.
    """
    layer = integer_layer(step, tensors, entry.scale)
    if step.node.op == "linear" and not gemm:
        product = b.op("MatMul", x, _rows(b, layer.weight.T, layer.scales, axis=1))
        return b.op("Add", product, b.constant(layer.bias.astype(np.float32)))
    units = (np.float32(entry.scale) * layer.scales).astype(np.float32)
    bias = _rows(b, layer.bias_integers(entry.scale, 32).astype(np.int32), units, axis=0)
    if step.node.op == "linear":
        return b.op("Gemm", x, _rows(b, layer.weight, layer.scales, axis=0), bias, transB=1)
    attrs = window(step.node, layer.weight.ndim)
    return b.op("Conv", x, _rows(b, layer.weight, layer.scales, axis=0), bias, **attrs)


def _rows(b: Builder, integers: AnyArray, scales: FloatArray, axis: int) -> str:
    """Integers with one scale for each entry of ``axis``, as float32 values."""
    zeros = b.constant(np.zeros(len(scales), integers.dtype))  # said, since some of the runtime's passes ask
    held = b.constant(np.ascontiguousarray(integers))
    return b.op("DequantizeLinear", held, b.constant(scales), zeros, axis=axis)
