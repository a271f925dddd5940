"""ONNX emitters for int8: QuantizeLinear and DequantizeLinear around layers, which become int8 kernels.

Activations are uint8 here, as ONNX Runtime's fast x86 kernels take uint8: the file's int8 plus 128. Weights
are int8 with one scale a row. The real numbers are the same as with int8 activations.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from laconic.pack.graph.ops import int_of
from laconic.records import ActivationRange, AnyArray, FloatArray
from laconic.runtime.graph.steps import Step
from laconic.runtime.int8.transposed import WIDE_ENOUGH, as_columns, as_convolution, as_phases
from laconic.runtime.int8.weights import IntegerLayer
from laconic.runtime.onnx_model.builder import Builder
from laconic.runtime.ops.layers import emit_conv_transpose, window
from laconic.runtime.ops.table import row_of


def quantise(b: Builder, name: str, entry: ActivationRange) -> str:
    """A float32 value as uint8 in its range."""
    return b.op("QuantizeLinear", name, *_grid(b, entry))


def dequantise(b: Builder, name: str, entry: ActivationRange) -> str:
    """A uint8 value as float32."""
    return b.op("DequantizeLinear", name, *_grid(b, entry))


def padded(b: Builder, integers: str, entry: ActivationRange, pads: Sequence[int]) -> str:
    """Zero padding of a uint8 value: all begins, then all ends; a negative pad removes entries."""
    return b.op("Pad", integers, b.ints(pads), _grid(b, entry)[1])


def int8_layer(
    b: Builder, step: Step, x: str, entry: ActivationRange, layer: IntegerLayer, gemm: bool
) -> str:
    """A linear layer or convolution on int8 weights with batch normalisation folded in; the bias is int32.

    ``x`` is the input, quantised and dequantised, ``entry`` its range. With ``gemm`` a linear layer is one
    node, which needs a matrix as input and an int8 output; else it is a product and a float32 sum.
    """
    if step.node.op == "linear" and not gemm:
        product = b.op("MatMul", x, _rows(b, layer.weight.T, layer.scales, axis=1))
        return b.op("Add", product, b.constant(layer.bias.astype(np.float32)))
    units = (np.float32(entry.scale) * layer.scales).astype(np.float32)
    bias = _rows(b, layer.bias_integers(entry.scale, 32).astype(np.int32), units, axis=0)
    if step.node.op == "linear":
        return b.op("Gemm", x, _rows(b, layer.weight, layer.scales, axis=0), bias, transB=1)
    attrs = window(step.node, layer.weight.ndim)
    return b.op("Conv", x, _rows(b, layer.weight, layer.scales, axis=0), bias, **attrs)


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
    phases = as_phases(step.node, layer.weight)
    if out is not None and phases is not None and len(phases.weight) >= WIDE_ENOUGH:
        phase_count = phases.stride**2
        bias = _rows(b, np.repeat(integers, phase_count), np.repeat(units, phase_count), axis=0)
        rows = _rows(b, phases.weight, np.repeat(layer.scales, phase_count), axis=0)
        sums = activated(b, step, b.op("Conv", x, rows, bias, pads=phases.pads))
        return b.op("DepthToSpace", quantise(b, sums, out), blocksize=phases.stride, mode="CRD"), True
    plain = as_convolution(step.node, layer.weight.shape[2:])
    if out is not None and plain is not None:
        bias, rows = _rows(b, integers, units, axis=0), _rows(b, layer.weight, layer.scales, axis=0)
        return activated(b, step, b.op("Conv", x, rows, bias, **plain)), False
    weight = layer.weight * layer.scales.reshape(-1, *(1,) * (layer.weight.ndim - 1))
    own = b.constant(np.ascontiguousarray(as_columns(weight, int_of(step.node, "groups")), np.float32))
    b.ranks[own] = layer.weight.ndim
    given = (x, own, b.constant((integers * units).astype(np.float32)))
    return activated(b, step, emit_conv_transpose(b, step.node, given)[0]), False


def activated(b: Builder, step: Step, y: str) -> str:
    """A layer's sums after the activation that is folded into it."""
    if step.activation is None:
        return y
    return row_of(step.activation.op).form(b, step.activation, (y,))[0]


def _grid(b: Builder, entry: ActivationRange) -> tuple[str, str]:
    return b.scalar(entry.scale), b.constant(np.asarray(entry.zero_point + 128, dtype=np.uint8))


def _rows(b: Builder, integers: AnyArray, scales: FloatArray, axis: int) -> str:
    """Integers with one scale for each entry of ``axis``, as float32 values.

    Zero points are written out, since some of ONNX Runtime's passes need them. On x86 processors without
    VNNI another pass converts int8 weights to uint8 and derives new names from the old ones. It fails where
    two layers share an initialiser, so each layer has its own.
    """
    zeros = b.unshared(np.zeros(len(scales), integers.dtype))
    held = b.unshared(np.ascontiguousarray(integers))
    return b.op("DequantizeLinear", held, b.constant(scales), zeros, axis=axis)
