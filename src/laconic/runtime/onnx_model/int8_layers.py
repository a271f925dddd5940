"""ONNX emitters for int8: QuantizeLinear and DequantizeLinear around layers, which become int8 kernels.

Activations are uint8 here (ONNX Runtime's fast kernels on x86), the file's int8 plus 128; weights are int8
with one scale a row. The numbers are the same either way.
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


def rounded(b: Builder, name: str, entry: ActivationRange) -> str:
    """A float32 value as uint8 in its range."""
    return b.op("QuantizeLinear", name, *_grid(b, entry))


def real(b: Builder, name: str, entry: ActivationRange) -> str:
    """A uint8 value as float32."""
    return b.op("DequantizeLinear", name, *_grid(b, entry))


def padded(b: Builder, integers: str, entry: ActivationRange, pads: Sequence[int]) -> str:
    """Zeros around a uint8 value: all begins, then all ends; an end below zero takes entries away."""
    return b.op("Pad", integers, b.ints(pads), _grid(b, entry)[1])


def int8_layer(
    b: Builder, step: Step, x: str, entry: ActivationRange, layer: IntegerLayer, gemm: bool
) -> str:
    """A linear layer or convolution on int8 weights, its batch normalisation in them; the bias is int32.

    ``x`` is the input, rounded and ``real`` again, ``entry`` its range. With ``gemm`` a linear layer is one
    node, which wants a matrix and an output in int8; else it is a product and a float32 sum.
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
    """A transposed convolution on int8 weights, its activation behind it; and whether it is in integers.

    ONNX Runtime has no int8 kernel for it. One that makes images larger by its stride becomes a convolution
    whose channels are then put in their places, in int8; one of stride 1 becomes a convolution. Others stay,
    and those that leave the network in float32 (``out`` is None), on the same numbers.
    """
    integers = layer.bias_integers(entry.scale, 32).astype(np.int32)
    units = (np.float32(entry.scale) * layer.scales).astype(np.float32)
    phases = as_phases(step.node, layer.weight)
    if out is not None and phases is not None and len(phases.weight) >= WIDE_ENOUGH:
        times = phases.stride**2
        bias = _rows(b, np.repeat(integers, times), np.repeat(units, times), axis=0)
        rows = _rows(b, phases.weight, np.repeat(layer.scales, times), axis=0)
        sums = activated(b, step, b.op("Conv", x, rows, bias, pads=phases.pads))
        return b.op("DepthToSpace", rounded(b, sums, out), blocksize=phases.stride, mode="CRD"), True
    alike = as_convolution(step.node, layer.weight.shape[2:])
    if out is not None and alike is not None:
        bias, rows = _rows(b, integers, units, axis=0), _rows(b, layer.weight, layer.scales, axis=0)
        return activated(b, step, b.op("Conv", x, rows, bias, **alike)), False
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

    Zero points are said, since some of the runtime's passes ask for them. On x86 processors without VNNI
    another pass writes int8 weights anew as uint8, under names that it makes from the old ones: an
    initialiser that two layers share would be written twice, which it refuses. So each layer has its own.
    """
    zeros = b.unshared(np.zeros(len(scales), integers.dtype))
    held = b.unshared(np.ascontiguousarray(integers))
    return b.op("DequantizeLinear", held, b.constant(scales), zeros, axis=axis)
