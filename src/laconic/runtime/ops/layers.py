"""Layers on stored weights and windows: linear, convolutions, normalisations, pooling, embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from laconic.pack.graph.ops import flag_of, float_of, int_of, ints_of
from laconic.records import Node
from laconic.runtime.ops.arithmetic import product
from laconic.runtime.ops.row import (
    Cost,
    Emitter,
    First,
    Int8,
    Op,
    Takes,
    plain,
    rank_of_first,
    type_of_second,
)
from laconic.runtime.ops.shape_rules import Given, Rule, Shape, broadcast, filled, optional, present, require
from laconic.runtime.ops.windows import both_ends, spread

if TYPE_CHECKING:
    from laconic.runtime.onnx_model.builder import Builder
    from laconic.runtime.onnx_model.protos import OnnxAttr

LARGEST = 2**31 - 1
"""Strides, kernels, paddings and such: the runtime's kernels count these in 32 bits."""


def _linear_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    """Y = x W^T + b for inputs of any rank; ONNX Runtime folds the transpose when it loads."""
    key = ("transposed", x[1])
    if key not in b.made:  # layers that share a weight share its transpose
        b.made[key] = (b.op("Transpose", x[1], perm=(1, 0)),)
    product = b.op("MatMul", x[0], *b.made[key])
    return (b.op("Add", product, x[2]) if len(x) > 2 and x[2] else product,)


def conv_attributes(node: Node, rank: int | None) -> dict[str, OnnxAttr]:
    """Attributes that convolutions share; defaults are left out, since ONNX has the same ones."""
    attrs: dict[str, OnnxAttr] = {"group": int_of(node, "groups")}
    for ours, theirs, default in (
        ("stride", "strides", 1),
        ("dilation", "dilations", 1),
        ("padding", "pads", 0),
    ):
        values = ints_of(node, ours)
        if values == (default,):
            continue
        n = rank - 2 if rank is not None else len(values)
        attrs[theirs] = both_ends(values, n) if theirs == "pads" else spread(values, n)
    return attrs


def _conv_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Conv", *x, **conv_attributes(node, b.rank(x[1]))),)


def emit_conv_transpose(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    """The convolution's gradient as a layer: weights (I, O / groups, k..)."""
    attrs = conv_attributes(node, b.rank(x[1]))
    extra = ints_of(node, "output_padding")
    if extra != (0,):
        rank = b.rank(x[1])
        attrs["output_padding"] = spread(extra, rank - 2 if rank is not None else len(extra))
    return (b.op("ConvTranspose", *x, **attrs),)


def _batch_norm_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    """(x - mean) / sqrt(var + eps) * weight + bias with the running moments."""
    channels = b.array(x[3]).shape
    weight = x[1] or b.constant(np.ones(channels, np.float32))
    bias = x[2] or b.constant(np.zeros(channels, np.float32))
    return (b.op("BatchNormalization", x[0], weight, bias, x[3], x[4], epsilon=float_of(node, "eps")),)


def _layer_norm_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    dims, eps = int_of(node, "dims"), float_of(node, "eps")
    if len(x) > 1 and x[1]:
        return (b.op("LayerNormalization", *x, axis=-dims, epsilon=eps),)
    axes = b.ints(range(-dims, 0))
    centred = b.op("Sub", x[0], b.op("ReduceMean", x[0], axes))
    variance = b.op("ReduceMean", b.op("Mul", centred, centred), axes)
    return (b.op("Div", centred, b.op("Sqrt", b.op("Add", variance, b.scalar(eps)))),)


def _group_norm_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    """Each group becomes one channel of an instance normalisation; weights are per channel, afterwards."""
    groups, eps = int_of(node, "groups"), float_of(node, "eps")
    ones, zeros = b.constant(np.ones(groups, np.float32)), b.constant(np.zeros(groups, np.float32))
    flat = b.op("Reshape", x[0], b.ints((0, groups, -1)))
    normal = b.op("InstanceNormalization", flat, ones, zeros, epsilon=eps)
    y = b.op("Reshape", normal, b.op("Shape", x[0]))
    for kind, weight in zip(("Mul", "Add"), x[1:], strict=False):
        if weight:
            y = b.op(kind, y, _per_channel(b, weight, int_of(node, "rank")))
    return (y,)


def _per_channel(b: Builder, weight: str, rank: int) -> str:
    """(C,) -> (C, 1, ...), so that it lines up with axis 1 of a value of this rank."""
    return b.op("Reshape", weight, b.ints((-1, *(1,) * max(0, rank - 2))))


def _pool_form(b: Builder, node: Node, x: tuple[str, ...], kind: str, **extra: OnnxAttr) -> tuple[str, ...]:
    n = int_of(node, "rank")
    kernel = spread(ints_of(node, "kernel"), n)
    return (
        b.op(
            kind,
            x[0],
            kernel_shape=kernel,
            strides=spread(ints_of(node, "stride") or kernel, n),
            pads=both_ends(ints_of(node, "padding"), n),
            ceil_mode=int(flag_of(node, "ceil")),
            **extra,
        ),
    )


def _max_pool_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    dilations = spread(ints_of(node, "dilation"), int_of(node, "rank"))
    return _pool_form(b, node, x, "MaxPool", dilations=dilations)


def _avg_pool_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return _pool_form(b, node, x, "AveragePool", count_include_pad=int(not flag_of(node, "exclude_pad")))


def _global_form(kind: str) -> Emitter:
    def emit(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
        return (b.op(kind, x[0]),)

    return emit


def _embedding_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Gather", x[1], x[0], axis=0),)


def _prelu_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    """max(x, 0) + slope min(x, 0); the slope has one value, or one per channel: (C,) lines up with axis 1.

    One slope is a LeakyRelu. For more, four operations take a fifth of the time of ONNX Runtime's PRelu,
    which goes through the entries one by one.
    """
    slope = b.array(x[1])
    if slope.size == 1:
        return (b.op("LeakyRelu", x[0], alpha=float(slope.reshape(()))),)
    below = b.op("Min", x[0], b.scalar(0.0))
    wide = _per_channel(b, x[1], int_of(node, "rank"))
    return (b.op("Add", b.op("Relu", x[0]), b.op("Mul", below, wide)),)


def _positive(values: list[int], what: str) -> list[int]:
    require(all(0 < v <= LARGEST for v in values), f"{what} {tuple(values)} must be in 1..{LARGEST}")
    return values


def _not_negative(values: list[int], what: str) -> list[int]:
    require(all(0 <= v <= LARGEST for v in values), f"{what} {tuple(values)} must be in 0..{LARGEST}")
    return values


def _linear_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    weight, bias = filled(present(given, 1)), optional(given, 2)
    require(len(weight) == 2, f"a weight of shape {weight} is not a matrix")
    y = product(filled(present(given, 0)), weight[::-1])
    return (y if bias is None else broadcast(y, bias),)


class _Window:
    """Stride, dilation and padding of a convolution over a kernel's axes."""

    def __init__(self, node: Node, given: Given) -> None:
        x, weight = filled(present(given, 0)), filled(present(given, 1))
        n = len(weight) - 2
        require(n >= 1 and len(x) == len(weight), f"a kernel of shape {weight} cannot run over {x}")
        self.x, self.weight, self.n, self.kernel = x, weight, n, weight[2:]
        self.groups = int_of(node, "groups")
        self.stride = _positive(spread(ints_of(node, "stride"), n), "stride")
        self.dilation = _positive(spread(ints_of(node, "dilation"), n), "dilation")
        pads = _not_negative(both_ends(ints_of(node, "padding"), n), "padding")
        self.pads = [a + b for a, b in zip(pads[:n], pads[n:], strict=True)]
        self.extent = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True)]

    def result(self, channels: int, sizes: list[int], bias: Shape | None) -> tuple[Shape, ...]:
        """The output's shape: batch, channels and sizes, all checked."""
        require(min(sizes) > 0, f"a kernel of shape {self.kernel} does not fit in {self.x}")
        require(bias is None or bias == (channels,), f"a bias of shape {bias} is not for {channels} channels")
        return ((self.x[0], channels, *sizes),)


def _conv_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    w = _Window(node, given)
    fits = w.x[1] == w.weight[1] * w.groups and w.weight[0] % w.groups == 0
    require(fits, f"a weight of shape {w.weight} in {w.groups} groups is not for {w.x[1]} channels")
    sizes = [(s + p - r) // t + 1 for s, p, r, t in zip(w.x[2:], w.pads, w.extent, w.stride, strict=True)]
    return w.result(w.weight[0], sizes, optional(given, 2))


def _conv_transpose_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    w = _Window(node, given)
    extra = _not_negative(spread(ints_of(node, "output_padding"), w.n), "output_padding")
    inside = all(e < t for e, t in zip(extra, w.stride, strict=True))
    require(inside, f"an output padding of {extra} reaches beyond a stride of {w.stride}")
    fits = w.x[1] == w.weight[0] and w.weight[0] % w.groups == 0
    require(fits, f"a weight of shape {w.weight} in {w.groups} groups is not for {w.x[1]} channels")
    sizes = [
        t * (s - 1) + r - p + e
        for s, p, r, t, e in zip(w.x[2:], w.pads, w.extent, w.stride, extra, strict=True)
    ]
    return w.result(w.weight[1] * w.groups, sizes, optional(given, 2))


def _batch_norm_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    x = filled(present(given, 0))
    require(len(x) >= 2, f"a value of shape {x} has no channels")
    for k in range(1, 5):
        found = optional(given, k)
        absent = found is None and k < 3
        require(absent or found == (x[1],), f"moments of shape {found} are not for {x[1]} channels")
    return (x,)


def _layer_norm_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    x, dims = filled(present(given, 0)), int_of(node, "dims")
    require(dims <= len(x), f"a value of shape {x} has no {dims} dimensions to normalise")
    for k in (1, 2):
        found = optional(given, k)
        require(found is None or found == x[-dims:], f"a weight of shape {found} is not for {x[-dims:]}")
    return (x,)


def _group_norm_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    x, groups = filled(present(given, 0)), int_of(node, "groups")
    fits = len(x) == int_of(node, "rank") and len(x) >= 2 and x[1] % groups == 0
    require(fits, f"a value of shape {x} has no {groups} groups of channels")
    for k in (1, 2):
        found = optional(given, k)
        require(found is None or found == (x[1],), f"a weight of shape {found} is not for {x[1]} channels")
    return (x,)


def _pool_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    """Windows over the last axes; with ``ceil`` also one that ends outside, but none that begins outside."""
    x, n = filled(present(given, 0)), int_of(node, "rank")
    require(len(x) == n + 2 and n < 4, f"a value of shape {x} has no {n} of one to three axes to pool")
    kernel = _positive(spread(ints_of(node, "kernel"), n), "kernel")
    stride = _positive(spread(ints_of(node, "stride") or kernel, n), "stride")
    dilation = [1] * n
    if node.op == "max_pool":
        dilation = _positive(spread(ints_of(node, "dilation"), n), "dilation")
    pads = _not_negative(both_ends(ints_of(node, "padding"), n), "padding")
    sizes = []
    for axis, size in enumerate(x[2:]):
        before, after, step = pads[axis], pads[n + axis], stride[axis]
        require(
            max(before, after) < kernel[axis], f"a padding of {pads} is not smaller than a kernel of {kernel}"
        )
        room = size + before + after - dilation[axis] * (kernel[axis] - 1) - 1
        count = (-(-room // step) if flag_of(node, "ceil") else room // step) + 1
        if flag_of(node, "ceil") and (count - 1) * step >= size + before:
            count -= 1
        require(room >= 0 and count > 0, f"a kernel of {kernel} does not fit in {x}")
        sizes.append(count)
    return ((*x[:2], *sizes),)


def _global_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    x = filled(present(given, 0))
    require(2 < len(x) < 6, f"a value of shape {x} has no one to three axes to pool behind its channels")
    return ((*x[:2], *(1,) * (len(x) - 2)),)


def _embedding_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    weight = filled(present(given, 1))
    require(len(weight) >= 1, "the weights have no rows")
    return ((*present(given, 0), *weight[1:]),)


def _prelu_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    x, slope = present(given, 0), present(given, 1)
    count, rank = (slope[0] if len(slope) == 1 else 1), int_of(node, "rank")
    by_channel = len(x) >= 2 and rank == len(x) and count == x[1]
    lines_up = by_channel or count == 1 and max(1, rank - 1) <= max(1, len(x))
    require(len(slope) <= 1 and lines_up, f"slopes of shape {slope} are not for {x}")
    return (x,)


def _weighted(form: Emitter, shape: Rule, first: First = "reals") -> Op:
    """A layer that multiplies by stored weights."""
    row = plain(form, shape, Takes(first, alike=(0, 1, 2)), "weighted")
    return row._replace(rank=rank_of_first, int8="layer", channels="made")


def _pooled(form: Emitter, shape: Rule, takes: Takes, int8: Int8, cost: Cost) -> Op:
    return plain(form, shape, takes, cost)._replace(rank=rank_of_first, int8=int8, channels="kept")


_NORM = Takes("reals", alike=(0, 1, 2))

ROWS: dict[str, Op] = {
    "linear": _weighted(_linear_form, _linear_shape, "any"),
    "conv": _weighted(_conv_form, _conv_shape),
    "conv_transpose": _weighted(emit_conv_transpose, _conv_transpose_shape)._replace(cost="transposed"),
    "batch_norm": plain(
        _batch_norm_form, _batch_norm_shape, Takes("reals", alike=(0, 1, 2, 3, 4)), "pointwise"
    )._replace(rank=rank_of_first, folds="norm"),
    "layer_norm": plain(_layer_norm_form, _layer_norm_shape, _NORM, "normalisation"),
    "group_norm": plain(_group_norm_form, _group_norm_shape, _NORM, "normalisation"),
    "max_pool": _pooled(_max_pool_form, _pool_shape, Takes(), "move", "pooling"),
    "avg_pool": _pooled(_avg_pool_form, _pool_shape, Takes("reals"), "average", "pooling"),
    "global_avg_pool": _pooled(
        _global_form("GlobalAveragePool"), _global_shape, Takes("reals"), "average", "reduction"
    ),
    "global_max_pool": _pooled(
        _global_form("GlobalMaxPool"), _global_shape, Takes("reals"), "move", "reduction"
    ),
    "embedding": plain(_embedding_form, _embedding_shape, Takes(places=0), "partial")._replace(
        result=type_of_second
    ),
    "prelu": plain(_prelu_form, _prelu_shape, Takes(alike=(0, 1)), "pointwise"),
}
