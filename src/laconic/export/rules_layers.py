"""Lowering rules for layers: linear, convolution, norms, pooling, embedding, recurrence, attention."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from laconic.errors import CaptureError
from laconic.export.lowering import Call, Lowering, Ref, Rule, Value, float32, is_free, tight

aten = torch.ops.aten


def _linear(low: Lowering, call: Call) -> Ref:
    return low.emit("linear", call.value("input"), call.value("weight"), call.maybe("bias"))


def _window(call: Call, weight: Value) -> dict[str, tuple[int, ...]]:
    """Stride, padding and dilation; with a computed weight, whose rank is unknown, one entry per axis."""
    n = len(weight.shape) - 2
    shrink = tight if isinstance(weight, torch.Tensor) or weight.id < 0 else tuple

    def spread(name: str) -> tuple[int, ...]:
        values = call.integers(name)
        return shrink(values * n if len(values) == 1 else values)

    names = [k for k in ("stride", "padding", "dilation") if not isinstance(call.get(k), str)]
    window = {name: spread(name) for name in names}
    return {k: v for k, v in window.items() if set(v) != {0 if k == "padding" else 1}}


def _check_batch(x: Value, rank: int) -> None:
    """Refuse an input without a batch dimension."""
    if len(x.shape) != rank + 2:
        raise CaptureError(f"an input of {len(x.shape)} dimensions has no batch. Cure: add one, x[None]")


def _conv(low: Lowering, call: Call) -> Ref:
    x, weight = call.value("input"), call.value("weight")
    _check_batch(x, len(weight.shape) - 2)
    window = _window(call, weight)
    if call.get("padding") == "same":
        dilation = call.integers("dilation")
        dilation = dilation * (len(weight.shape) - 2) if len(dilation) == 1 else dilation
        total = [d * (int(k) - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        begin, end = [t // 2 for t in total], [t - t // 2 for t in total]
        if begin != end and isinstance(weight, Ref) and weight.id >= 0:
            # with a computed weight, begins and ends would be read as one value per axis
            pads = [n for pair in zip(reversed(begin), reversed(end), strict=True) for n in pair]
            x = low.emit("pad", x, pads=tuple(pads))
        else:
            shrink = tuple if isinstance(weight, Ref) and weight.id >= 0 else tight
            window["padding"] = shrink(begin) if begin == end else (*begin, *end)
    return low.emit("conv", x, weight, call.maybe("bias"), groups=call.integer("groups"), **window)


def _conv_transpose(low: Lowering, call: Call) -> Ref:
    weight = call.value("weight")
    _check_batch(call.value("input"), len(weight.shape) - 2)
    window = _window(call, weight)
    extra = call.integers("output_padding")
    extra = extra * (len(weight.shape) - 2) if len(extra) == 1 else extra
    if any(extra):
        window["output_padding"] = (
            tight(extra) if "stride" not in window or len(window["stride"]) == 1 else extra
        )
    return low.emit(
        "conv_transpose",
        call.value("input"),
        weight,
        call.maybe("bias"),
        groups=call.integer("groups"),
        **window,
    )


def _convolution(low: Lowering, call: Call) -> Ref:
    if not call.get("transposed"):
        call.ignore("output_padding")
    return (_conv_transpose if call.get("transposed") else _conv)(low, call)


def _batch_norm(low: Lowering, call: Call) -> Any:
    mean, variance = call.maybe("running_mean"), call.maybe("running_var")
    if call.get("training") or mean is None or variance is None:
        raise CaptureError(
            "batch normalisation without running statistics depends on the other examples of the batch. "
            "Cure: track_running_stats=True"
        )
    weight, bias = call.maybe("weight"), call.maybe("bias")
    x = low.emit(
        "batch_norm", call.value("input"), weight, bias, mean, variance, eps=float32(call.get("eps"))
    )
    return [x, None, None] if isinstance(call.result, (tuple, list)) else x


def _layer_norm(low: Lowering, call: Call) -> Ref:
    dims, eps = len(call.integers("normalized_shape")), float32(call.get("eps"))
    weight, bias = call.maybe("weight"), call.maybe("bias")
    if weight is None and bias is not None:
        return low.emit("add", low.emit("layer_norm", call.value("input"), dims=dims, eps=eps), bias)
    return low.emit("layer_norm", call.value("input"), weight, bias, dims=dims, eps=eps)


def _rms_norm(low: Lowering, call: Call) -> Ref:
    """X / sqrt(mean(x^2) + eps) * weight."""
    x, dims = call.value("input"), tuple(range(-len(call.integers("normalized_shape")), 0))
    eps = torch.finfo(torch.float32).eps if call.get("eps") is None else float(call.get("eps"))
    square = low.emit("mean", low.emit("mul", x, x), dims=dims, keepdim=True)
    y = low.emit("div", x, low.emit("sqrt", low.emit("add", square, scalar=float32(eps))))
    weight = call.maybe("weight")
    return y if weight is None else low.emit("mul", y, weight)


def _normalise_groups(low: Lowering, x: Value, call: Call, groups: int) -> Ref:
    weight, bias, eps = call.maybe("weight"), call.maybe("bias"), float32(call.get("eps"))
    return low.emit("group_norm", x, weight, bias, groups=groups, eps=eps, rank=len(x.shape))


def _group_norm(low: Lowering, call: Call) -> Ref:
    return _normalise_groups(low, call.value("input"), call, call.integer("num_groups"))


def _instance_norm(low: Lowering, call: Call) -> Ref:
    if not call.get("use_input_stats"):
        return low.emit(
            "batch_norm",
            call.value("input"),
            *(call.maybe(k) for k in ("weight", "bias", "running_mean", "running_var")),
            eps=float32(call.get("eps")),
        )
    x = call.value("input")
    call.ignore("running_mean", "running_var")
    return _normalise_groups(low, x, call, int(x.shape[1]))


def _prelu(low: Lowering, call: Call) -> Ref:
    x = call.value("self")
    return low.emit("prelu", x, call.value("weight"), rank=len(x.shape))


def _rrelu(low: Lowering, call: Call) -> Ref:
    """In evaluation mode the slope is the middle of its range."""
    slope = (float(call.get("lower")) + float(call.get("upper"))) / 2
    return low.emit("leaky_relu", call.value("self"), slope=float32(slope))


def _pool_attrs(call: Call, rank: int) -> dict[str, Any]:
    _check_batch(call.value("self"), rank)
    kernel = call.integers("kernel_size") * (rank if len(call.integers("kernel_size")) == 1 else 1)
    stride = call.integers("stride") or kernel
    stride = stride * (rank if len(stride) == 1 else 1)
    return {
        "kernel": tight(kernel),
        "stride": () if stride == kernel else tight(stride),
        "padding": tight(call.integers("padding")),
        "ceil": bool(call.get("ceil_mode")),
        "rank": rank,
    }


def _max_pool(rank: int) -> Rule:
    def rule(low: Lowering, call: Call) -> Any:
        attrs = _pool_attrs(call, rank)
        y = low.emit("max_pool", call.value("self"), dilation=tight(call.integers("dilation")), **attrs)
        return [y, None] if isinstance(call.result, (tuple, list)) else y

    return rule


def _avg_pool(rank: int) -> Rule:
    def rule(low: Lowering, call: Call) -> Ref:
        if call.get("divisor_override") is not None:
            raise CaptureError("average pooling with divisor_override has no rule")
        exclude = not call.get("count_include_pad")
        return low.emit("avg_pool", call.value("self"), exclude_pad=exclude, **_pool_attrs(call, rank))

    return rule


def _adaptive(rank: int, kind: str) -> Rule:
    """Output size 1 is global pooling; a size that divides the input's is a plain pool."""

    def rule(low: Lowering, call: Call) -> Any:
        x, both = call.value("self"), isinstance(call.result, (tuple, list))
        sizes = tuple(x.shape[-rank:])
        wanted = tuple((call.result[0] if both else call.result).shape[-rank:])
        if len(x.shape) != rank + 2:
            raise CaptureError("adaptive pooling needs a batch")
        if all(not is_free(w) and int(w) == 1 for w in wanted):
            y = low.emit(f"global_{kind}_pool", x)
        elif any(map(is_free, (*sizes, *wanted))):
            raise CaptureError(
                "adaptive pooling of a free axis is supported for the output size 1 only. "
                "Cure: leave that axis out of dynamic, or pool to size 1"
            )
        elif all(int(s) % int(w) == 0 for s, w in zip(sizes, wanted, strict=True)):
            kernel = tight([int(s) // int(w) for s, w in zip(sizes, wanted, strict=True)])
            y = low.emit(f"{kind}_pool", x, kernel=kernel, rank=rank)
        else:
            raise CaptureError(f"adaptive pooling from {sizes} to {wanted}: the sizes do not divide")
        return [y, None] if both else y

    return rule


def _embedding(low: Lowering, call: Call) -> Ref:
    call.ignore("padding_idx")  # affects the gradient only
    return low.emit("embedding", call.value("indices"), call.value("weight"))


def _embedding_bag(low: Lowering, call: Call) -> Any:
    """Bags of one length: rows of a matrix of indices, summed, averaged or maximised."""
    indices, offsets = call.value("indices"), call.value("offsets")
    bag = offsets.arange_step if isinstance(offsets, Ref) else None
    padding = call.get("padding_idx")
    ignores_an_index = padding is not None and padding >= 0
    odd = call.get("per_sample_weights") is not None or call.get("include_last_offset")
    if bag is None or odd or ignores_an_index:
        raise CaptureError("embedding_bag is supported for a matrix of indices without weights or padding")
    rows = low.emit("reshape", indices, shape=(-1, bag))
    looked_up = low.emit("embedding", rows, call.value("weight"))
    y = low.emit(("sum", "mean", "amax")[call.integer("mode")], looked_up, dims=(1,))
    return [y, None, None, None]


def _states(hx: Value | Sequence[Value]) -> list[Value | None]:
    """Initial states; one that is all zeros is the default and is left out."""
    states = [hx] if isinstance(hx, (Ref, torch.Tensor)) else hx
    return [None if _is_zero(s) else s for s in states]


def _is_zero(value: Value) -> bool:
    return value.fill == 0 if isinstance(value, Ref) else not bool(value.any())


def _recurrent(op: str, **extra: bool) -> Rule:
    def rule(low: Lowering, call: Call) -> list[Ref]:
        params: Sequence[Value] = call.get("params")
        if call.get("params") is None or "batch_sizes" in call:
            raise CaptureError("packed sequences have no rule. Cure: pad the batch")
        if not call.get("batch_first") and not low.axis_names and is_free(call.value("input").shape[0]):
            raise CaptureError("dimension 0 is time; by default only the batch dimension is free")
        if not call.get("train"):
            call.ignore("dropout")
        directions = 2 if call.get("bidirectional") else 1
        per_layer = directions * (4 if call.get("has_biases") else 2)
        projected = len(params) != call.integer("num_layers") * per_layer
        states = _states(call.get("hx"))
        if projected and states[0] is not None:
            raise CaptureError(
                "an LSTM with proj_size that starts from a hidden state has no rule. Cure: start from zeros"
            )
        if not all(isinstance(p, torch.Tensor) or p.id < 0 for p in params):
            raise CaptureError("recurrent weights must be parameters, not computed values")
        attrs = {
            "layers": call.integer("num_layers"),
            "bidirectional": bool(call.get("bidirectional")),
            "time_major": not call.get("batch_first"),
            "no_bias": not call.get("has_biases"),
        }
        if projected:
            attrs["projected"] = True
        return list(low.emit_all(op, call.value("input"), *states, *params, **attrs, **extra))

    return rule


def _attention(low: Lowering, call: Call) -> Ref:
    q, k, v = (call.value(name) for name in ("query", "key", "value"))
    if call.get("enable_gqa"):
        raise CaptureError("grouped-query attention has no rule. Cure: repeat the heads of key and value")
    mask = call.maybe("attn_mask")
    if mask is not None and mask.dtype == torch.bool:
        if isinstance(mask, torch.Tensor):
            mask = torch.where(mask, 0.0, -math.inf)
        else:
            mask = low.emit("where", mask, torch.tensor(0.0), torch.tensor(-math.inf))
    scale = call.get("scale")
    usual = scale is None or math.isclose(scale, float(q.shape[-1]) ** -0.5, rel_tol=1e-7)
    attrs = {"causal": bool(call.get("is_causal")), "scale": None if usual else float32(scale)}
    return low.emit("sdpa", q, k, v, mask, rank=len(q.shape), **attrs)


LAYER_RULES: Mapping[object, Rule] = {
    aten.linear: _linear,
    aten.conv1d: _conv,
    aten.conv2d: _conv,
    aten.conv3d: _conv,
    aten.conv_transpose1d: _conv_transpose,
    aten.conv_transpose2d: _conv_transpose,
    aten.conv_transpose3d: _conv_transpose,
    aten.convolution: _convolution,
    aten.batch_norm: _batch_norm,
    aten._native_batch_norm_legit_no_training: _batch_norm,
    aten.layer_norm: _layer_norm,
    aten.rms_norm: _rms_norm,
    aten.group_norm: _group_norm,
    aten.instance_norm: _instance_norm,
    aten.rrelu: _rrelu,
    aten.prelu: _prelu,
    aten._prelu_kernel: _prelu,
    aten.max_pool1d: _max_pool(1),
    aten.max_pool2d: _max_pool(2),
    aten.max_pool3d: _max_pool(3),
    aten.max_pool2d_with_indices: _max_pool(2),
    aten.avg_pool1d: _avg_pool(1),
    aten.avg_pool2d: _avg_pool(2),
    aten.avg_pool3d: _avg_pool(3),
    aten.adaptive_avg_pool1d: _adaptive(1, "avg"),
    aten.adaptive_avg_pool2d: _adaptive(2, "avg"),
    aten.adaptive_avg_pool3d: _adaptive(3, "avg"),
    aten.adaptive_max_pool1d: _adaptive(1, "max"),
    aten.adaptive_max_pool2d: _adaptive(2, "max"),
    aten.adaptive_max_pool3d: _adaptive(3, "max"),
    aten.embedding: _embedding,
    aten.embedding_bag: _embedding_bag,
    **{ops.lstm: _recurrent("lstm") for ops in (aten, torch.ops.laconic)},
    **{ops.gru: _recurrent("gru") for ops in (aten, torch.ops.laconic)},
    **{ops.rnn_tanh: _recurrent("rnn") for ops in (aten, torch.ops.laconic)},
    **{ops.rnn_relu: _recurrent("rnn", relu=True) for ops in (aten, torch.ops.laconic)},
    aten.scaled_dot_product_attention: _attention,
}
