"""ONNX emitters for layers: linear, convolutions, normalisations, pooling, embedding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from laconic.errors import CorruptFileError
from laconic.pack.graph.ops import flag_of, float_of, int_of, ints_of
from laconic.records import Node
from laconic.runtime.onnx_model.builder import Builder, Emitter
from laconic.runtime.onnx_model.protos import OnnxAttr


def spread(values: Sequence[int], n: int) -> list[int]:
    """One value for all axes, or one per axis: always ``n`` of them.

    >>> spread((2,), 3), spread((1, 2), 2)
    ([2, 2, 2], [1, 2])
    """
    if len(values) == 1:
        return list(values) * n
    if len(values) != n:
        raise CorruptFileError(f"{len(values)} values were given for {n} axes")
    return list(values)


def both_ends(padding: Sequence[int], n: int) -> list[int]:
    """ONNX pads (all begins, then all ends) from one value, one per axis, or begins and ends.

    >>> both_ends((1,), 2), both_ends((1, 2), 2), both_ends((0, 0, 1, 1), 2)
    ([1, 1, 1, 1], [1, 2, 1, 2], [0, 0, 1, 1])
    """
    if len(padding) == 2 * n:
        return list(padding)
    return spread(padding, n) * 2


def _linear(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    """Y = x W^T + b for inputs of any rank; ONNX Runtime folds the transpose when it loads."""
    key = ("turned", x[1])
    if key not in b.made:  # layers that share a weight share its transpose
        b.made[key] = (b.op("Transpose", x[1], perm=(1, 0)),)
    product = b.op("MatMul", x[0], *b.made[key])
    return (b.op("Add", product, x[2]) if len(x) > 2 and x[2] else product,)


def window(node: Node, rank: int | None) -> dict[str, OnnxAttr]:
    """Attributes that convolutions share; defaults are left to ONNX, which has the same ones."""
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


def _conv(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Conv", *x, **window(node, b.rank(x[1]))),)


def emit_conv_transpose(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    """The convolution's gradient as a layer: weights (I, O / groups, k..)."""
    attrs = window(node, b.rank(x[1]))
    extra = ints_of(node, "output_padding")
    if extra != (0,):
        rank = b.rank(x[1])
        attrs["output_padding"] = spread(extra, rank - 2 if rank is not None else len(extra))
    return (b.op("ConvTranspose", *x, **attrs),)


def _batch_norm(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    """(x - mean) / sqrt(var + eps) * weight + bias with the running moments."""
    channels = b.array(x[3]).shape
    weight = x[1] or b.constant(np.ones(channels, np.float32))
    bias = x[2] or b.constant(np.zeros(channels, np.float32))
    return (b.op("BatchNormalization", x[0], weight, bias, x[3], x[4], epsilon=float_of(node, "eps")),)


def _layer_norm(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    dims, eps = int_of(node, "dims"), float_of(node, "eps")
    if len(x) > 1 and x[1]:
        return (b.op("LayerNormalization", *x, axis=-dims, epsilon=eps),)
    axes = b.ints(range(-dims, 0))
    centred = b.op("Sub", x[0], b.op("ReduceMean", x[0], axes))
    variance = b.op("ReduceMean", b.op("Mul", centred, centred), axes)
    return (b.op("Div", centred, b.op("Sqrt", b.op("Add", variance, b.scalar(eps)))),)


def _group_norm(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
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


def _pool(b: Builder, node: Node, x: tuple[str, ...], kind: str, **extra: OnnxAttr) -> tuple[str, ...]:
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


def _max_pool(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    dilations = spread(ints_of(node, "dilation"), int_of(node, "rank"))
    return _pool(b, node, x, "MaxPool", dilations=dilations)


def _avg_pool(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return _pool(b, node, x, "AveragePool", count_include_pad=int(not flag_of(node, "exclude_pad")))


def _global(kind: str) -> Emitter:
    def emit(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
        return (b.op(kind, x[0]),)

    return emit


def _embedding(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Gather", x[1], x[0], axis=0),)


def _prelu(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
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


LAYERS: dict[str, Emitter] = {
    "linear": _linear,
    "conv": _conv,
    "conv_transpose": emit_conv_transpose,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "global_avg_pool": _global("GlobalAveragePool"),
    "global_max_pool": _global("GlobalMaxPool"),
    "embedding": _embedding,
    "prelu": _prelu,
}
