"""Weights and biases of one layer as integers, derived from the stored tensors alone, the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from laconic.errors import CorruptFileError
from laconic.pack.graph.ops import float_of
from laconic.records import FloatArray, Node, Tensor, tensor_index
from laconic.runtime.graph.steps import Step
from laconic.runtime.int8.transposed import as_rows
from laconic.runtime.ops.windows import Window, window_of

Doubles = npt.NDArray[np.float64]
LARGEST = 127
_FLOATS = ("float32", "float16")
_LARGE = 2.0**30  # so that bias and products together fit int32


@dataclass(frozen=True, eq=False)
class IntegerLayer:
    """``weight`` (int8, the layer's shape, -127..127), ``scales`` (one a row), and the real ``bias``.

    Row c of the layer's weights is ``scales[c] * weight[c]``; batch normalisation is in both already. A
    transposed convolution's are turned into a convolution's
    (:func:`laconic.runtime.int8.transposed.as_rows`). ``window`` is how a convolution moves; None of a linear
    layer.
    """

    weight: npt.NDArray[np.int8]
    scales: FloatArray
    bias: Doubles
    window: Window | None = None

    @property
    def is_ternary(self) -> bool:
        """Whether all weights are -1, 0 or 1 times their row's scale."""
        return bool(np.abs(self.weight).max(initial=0) <= 1)

    def bias_integers(self, input_scale: float, bits: int) -> npt.NDArray[np.int64]:
        """The bias in units of input scale x row scale, saturated to ``bits`` bits."""
        units = self.bias / (float(input_scale) * self.scales.astype(np.float64))
        bound = 2.0 ** (bits - 1)
        return np.clip(np.rint(units), -bound, bound - 1).astype(np.int64)


def filled(layer: IntegerLayer, rows: int, columns: int) -> IntegerLayer:
    """The layer with rows and columns (input channels) of zeros behind its own; extra rows have no bias."""
    beyond = [(0, rows), (0, columns), *((0, 0),) * (layer.weight.ndim - 2)]
    return replace(
        layer,
        weight=np.pad(layer.weight, beyond),
        scales=np.pad(layer.scales, (0, rows), "edge"),
        bias=np.pad(layer.bias, (0, rows)),
    )


class LayerPlan(NamedTuple):
    """All that the nodes of a layer hold.

    Attributes:
        layer: Its weights, with the channels of zeros that are added to them.
        bias: The bias in integers.
        units: What one unit of each bias is, input scale times the row's scale.
    """

    layer: IntegerLayer
    bias: npt.NDArray[np.int32]
    units: FloatArray


def plan_layer(layer: IntegerLayer, input_scale: float) -> LayerPlan:
    """A layer whose input has this scale."""
    units = (np.float32(input_scale) * layer.scales).astype(np.float32)
    return LayerPlan(layer, layer.bias_integers(input_scale, 32).astype(np.int32), units)


def integer_layer(step: Step, tensors: Sequence[Tensor], input_scale: float) -> IntegerLayer:
    """One linear layer or (transposed) convolution in integers, with the batch normalisation folded into it.

    A row's scale is, in this order: the one magnitude that its non-zero weights share; the row's step
    if the tensor's integers fit int8; the largest magnitude over 127. So ternary and few-bit weights stay
    exact. The scale is raised where the bias would not fit int32, and rounded to float32; weights round
    half to even.

    Raises ``CorruptFileError`` for weights that are no finite numbers, or a bias or normalisation of
    another width.
    """
    refs = step.node.inputs
    tensor = tensors[tensor_index(refs[1])] if refs[1] is not None else None
    if tensor is None or tensor.dtype not in _FLOATS or len(tensor.shape) < 2:
        raise CorruptFileError(
            f"operation {step.node.op!r} needs floating-point weights of two dimensions or more"
        )
    window = None if step.node.op == "linear" else window_of(step.node, len(tensor.shape) - 2)
    groups = window.groups if window is not None and step.node.op == "conv_transpose" else None
    eps = 0.0 if step.norm is None else float_of(step.norm, "eps")
    weight = tensor.values().astype(np.float64)
    weight = weight if groups is None else as_rows(weight, groups)
    rows = len(weight)
    bias = _vector(tensors, refs[2] if len(refs) > 2 else None, rows, 0.0)
    factor = np.ones(rows)
    if step.norm is not None:
        factor, bias = _folded(step.norm, tensors, bias, eps)
    flat = weight.reshape(rows, -1) * factor[:, None]
    with np.errstate(over="ignore"):
        scales = np.maximum(
            _row_scales(flat, _own_steps(tensor, groups, rows), np.abs(factor)),
            np.abs(bias) / (input_scale * _LARGE),
        )
        narrow = np.asarray(scales, np.float32)
    if not (np.isfinite(flat).all() and np.isfinite(narrow).all() and np.all(narrow > 0)):
        raise CorruptFileError(f"tensor {tensor.name!r}, its bias or its normalisation is not finite in int8")
    integers = np.clip(np.rint(flat / narrow.astype(np.float64)[:, None]), -LARGEST, LARGEST)
    return IntegerLayer(integers.astype(np.int8).reshape(weight.shape), narrow, bias, window)


def _row_scales(flat: Doubles, steps: Doubles | None, factor: Doubles) -> Doubles:
    """The scale of each row, positive also for rows of zeros (which take the tensor's largest)."""
    sizes = np.abs(flat)
    largest = sizes.max(1, initial=0.0)
    scales = largest / LARGEST
    if steps is not None:
        scales = np.where(steps > 0, steps * factor, scales)
    smallest = np.where(sizes > 0, sizes, np.inf).min(1, initial=np.inf)
    scales = np.where(smallest == largest, largest, scales)
    usual = float(scales.max(initial=0.0)) or 1.0
    return np.where((largest > 0) & (scales > 0), scales, usual)


def _own_steps(tensor: Tensor, groups: int | None, rows: int) -> Doubles | None:
    """The step of each row where the tensor's integers can be its int8 weights; 0 of a row with several.

    ``groups`` of a transposed convolution; None of any other layer.
    """
    found = tensor.multiples()
    if found is None or found.affine.zero != 0 or int(np.abs(found.integers).max(initial=0)) > LARGEST:
        return None
    axis, steps = found.affine.axis, np.array(found.affine.steps)
    if axis is None:
        return np.full(rows, steps[0])
    spread = np.broadcast_to(
        steps.reshape([-1 if k == axis else 1 for k in range(len(tensor.shape))]), tensor.shape
    )
    if groups is not None:
        spread = as_rows(spread, groups)
    flat = spread.reshape(rows, -1)
    return np.where(flat.min(1, initial=np.inf) == flat.max(1, initial=0), flat.max(1, initial=0), 0.0)


def _folded(norm: Node, tensors: Sequence[Tensor], bias: Doubles, eps: float) -> tuple[Doubles, Doubles]:
    """What batch normalisation multiplies each row by, and the bias that it leaves."""
    rows = len(bias)
    gain, shift, mean = (_vector(tensors, norm.inputs[k], rows, v) for k, v in ((1, 1.0), (2, 0.0), (3, 0.0)))
    variance = _vector(tensors, norm.inputs[4], rows, 1.0)
    with np.errstate(invalid="ignore", divide="ignore"):  # what is not finite is refused later
        factor = gain / np.sqrt(variance + eps)
    return factor, (bias - mean) * factor + shift


def _vector(tensors: Sequence[Tensor], ref: int | None, rows: int, absent: float) -> Doubles:
    if ref is None:
        return np.full(rows, absent)
    tensor = tensors[tensor_index(ref)]
    values = tensor.values()
    if values.shape != (rows,) or not np.issubdtype(values.dtype, np.floating):
        raise CorruptFileError(
            f"tensor {tensor.name!r} is {values.dtype} {values.shape}, the layer has {rows} rows"
        )
    return values.astype(np.float64)
