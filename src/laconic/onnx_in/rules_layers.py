"""Rules for ONNX' layers: convolutions, products, normalisations, pooling, look-ups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from laconic.errors import CaptureError
from laconic.onnx_in.conversion import Conversion, Known, Rule, Value
from laconic.onnx_in.messages import Call


def whole(call: Call, name: str, default: int) -> int:
    """An attribute that is an integer."""
    value = call.attrs.get(name, default)
    return value if isinstance(value, int) else default


def real(call: Call, name: str, default: float) -> float:
    """An attribute that is a number, as a float32."""
    value = call.attrs.get(name, default)
    return float(np.float32(value)) if isinstance(value, int | float) else default


def wholes(call: Call, name: str) -> tuple[int, ...]:
    """An attribute that is a list of integers; () where it is absent."""
    value: Any = call.attrs.get(name, ())
    return tuple(int(n) for n in value) if isinstance(value, tuple) else ()


def text(call: Call, name: str, default: str) -> str:
    """An attribute that is a text."""
    value = call.attrs.get(name, default)
    return value if isinstance(value, str) else default


def alike(values: tuple[int, ...], usual: int) -> tuple[int, ...]:
    """One value for all axes where all are equal; the usual one where there are none."""
    return values[:1] if values and len(set(values)) == 1 else values or (usual,)


def _pads(call: Call, axes: int) -> tuple[int, ...]:
    """Zero padding: one value, one for each axis, or begins and ends."""
    auto = text(call, "auto_pad", "NOTSET")
    if auto not in ("NOTSET", "VALID", ""):
        raise CaptureError(f"auto_pad {auto} has no rule")
    pads = wholes(call, "pads") if auto != "VALID" else ()
    begins, ends = pads[: len(pads) // 2], pads[len(pads) // 2 :]
    return alike(begins, 0) if begins == ends else pads


def _window(call: Call, axes: int) -> dict[str, Any]:
    return {
        "stride": alike(wholes(call, "strides"), 1),
        "padding": _pads(call, axes),
        "dilation": alike(wholes(call, "dilations"), 1),
        "groups": whole(call, "group", 1),
    }


def _conv(made: Conversion, call: Call) -> Sequence[Known]:
    x, weight = made.value(call, 0), made.value(call, 1)
    bias = None if made.given(call, 2) is None else made.value(call, 2)
    return (made.emit("conv", x, weight, bias, **_window(call, x.rank - 2)),)


def _conv_transpose(made: Conversion, call: Call) -> Sequence[Known]:
    if "output_shape" in call.attrs:
        raise CaptureError("output_shape has no rule")
    x, weight = made.value(call, 0), made.value(call, 1)
    bias = None if made.given(call, 2) is None else made.value(call, 2)
    extra = alike(wholes(call, "output_padding"), 0)
    return (made.emit("conv_transpose", x, weight, bias, output_padding=extra, **_window(call, x.rank - 2)),)


def _turned(made: Conversion, call: Call, index: int) -> Value | None:
    """A constant matrix, transposed; None for anything else."""
    name = call.inputs[index]
    if name in made.weights and len(made.weights[name].shape) == 2:
        return made.tensor(name, transposed=True)
    found = made.given(call, index)
    if isinstance(found, np.ndarray) and found.ndim == 2:
        return made.raw(np.ascontiguousarray(found.T), name, transposed=True)
    return None


def _matmul(made: Conversion, call: Call) -> Sequence[Known]:
    x = made.value(call, 0)
    weight = _turned(made, call, 1) if x.rank >= 2 else None
    if weight is not None and x.ref >= 0:
        return (made.emit("linear", x, weight),)
    return (made.emit("matmul", x, made.value(call, 1)),)


def _gemm(made: Conversion, call: Call) -> Sequence[Known]:
    if real(call, "alpha", 1.0) != 1.0 or real(call, "beta", 1.0) != 1.0:
        raise CaptureError("alpha and beta other than 1 have no rule")
    x = made.value(call, 0)
    if whole(call, "transA", 0):
        x = made.emit("permute", x, perm=(1, 0))
    bias = None if made.given(call, 2) is None else made.value(call, 2)
    weight = made.value(call, 1) if whole(call, "transB", 0) else _turned(made, call, 1)
    if weight is None:
        weight = made.emit("permute", made.value(call, 1), perm=(1, 0))
    if weight.ref < 0 and bias is not None and bias.ref < 0 and bias.shapes[0] == weight.shapes[0][:1]:
        return (made.emit("linear", x, weight, bias),)
    y = made.emit("linear", x, weight)
    return (y if bias is None else made.emit("add", y, bias),)


def _batch_norm(made: Conversion, call: Call) -> Sequence[Known]:
    if whole(call, "training_mode", 0) or len([name for name in call.outputs if name]) > 1:
        raise CaptureError("batch normalisation in training mode has no rule")
    parts = [made.value(call, k) for k in range(5)]
    return (made.emit("batch_norm", *parts, eps=real(call, "epsilon", 1e-5)),)


def _layer_norm(made: Conversion, call: Call) -> Sequence[Known]:
    x = made.value(call, 0)
    axis = whole(call, "axis", -1)
    dims = -axis if axis < 0 else x.rank - axis
    parts = [None if made.given(call, k) is None else made.value(call, k) for k in (1, 2)]
    return (made.emit("layer_norm", x, *parts, dims=dims, eps=real(call, "epsilon", 1e-5)),)


def _group_norm(made: Conversion, call: Call) -> Sequence[Known]:
    """Instance normalisation: each channel is a group."""
    x, scale, bias = (made.value(call, k) for k in range(3))
    groups, eps = x.size(1), real(call, "epsilon", 1e-5)
    return (made.emit("group_norm", x, scale, bias, groups=groups, eps=eps, rank=x.rank),)


def _pool(made: Conversion, call: Call) -> Sequence[Known]:
    x, kernel = made.value(call, 0), wholes(call, "kernel_shape")
    if len([name for name in call.outputs if name]) > 1 or whole(call, "storage_order", 0):
        raise CaptureError("the indices of a pooling have no rule")
    attrs: dict[str, Any] = {
        "kernel": alike(kernel, 1),
        "stride": alike(wholes(call, "strides"), 1),
        "padding": _pads(call, len(kernel)),
        "ceil": bool(whole(call, "ceil_mode", 0)),
        "rank": len(kernel),
    }
    if call.kind == "MaxPool":
        return (made.emit("max_pool", x, dilation=alike(wholes(call, "dilations"), 1), **attrs),)
    if set(wholes(call, "dilations")) - {1}:
        raise CaptureError("dilations of an average have no rule")
    exclude = not whole(call, "count_include_pad", 0)
    return (made.emit("avg_pool", x, exclude_pad=exclude, **attrs),)


def _global(op: str) -> Rule:
    def rule(made: Conversion, call: Call) -> Sequence[Known]:
        return (made.emit(op, made.value(call, 0)),)

    return rule


def _prelu(made: Conversion, call: Call) -> Sequence[Known]:
    x, slope = made.value(call, 0), made.constant(call, 1)
    if slope is None or slope.size not in (1, x.shapes[0][1] if x.rank > 1 else 1):
        raise CaptureError("a slope for each entry has no rule")
    if slope.size > 1 and (slope.ndim < x.rank - 1 or slope.shape[-(x.rank - 1)] != slope.size):
        raise CaptureError("a slope along another axis than the channels has no rule")
    return (made.emit("prelu", x, made.raw(slope.reshape(-1), call.inputs[1]), rank=x.rank),)


RULES: dict[str, Rule] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "InstanceNormalization": _group_norm,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": _global("global_avg_pool"),
    "GlobalMaxPool": _global("global_max_pool"),
    "PRelu": _prelu,
}
