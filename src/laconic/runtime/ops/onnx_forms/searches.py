"""ONNX emitters that look for places: largest entries, sampling at a grid, scattering, folding."""

from __future__ import annotations

from laconic.errors import CorruptFileError
from laconic.pack.graph.ops import flag_of, int_of, ints_of, text_of
from laconic.records import Node
from laconic.runtime.onnx_model.builder import Builder, Emitter


def _topk(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    """The k largest (or smallest) entries along an axis, in order, and their indices."""
    axis, largest = int_of(node, "axis"), int(not flag_of(node, "smallest"))
    return b.ops("TopK", 2, x[0], b.ints((int_of(node, "k"),)), axis=axis, largest=largest, sorted=1)


def _grid_sample(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    attrs = {"mode": text_of(node, "mode"), "padding_mode": text_of(node, "padding")}
    return (b.op("GridSample", x[0], x[1], align_corners=int(flag_of(node, "align")), **attrs),)


def _scatter(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    attrs = {"reduction": text_of(node, "reduce")}
    return (b.op("ScatterElements", *x, axis=int_of(node, "axis"), **attrs),)


def _fold(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    """The sum of overlapping windows (col2im), two axes."""
    names = ("size", "kernel", "dilation", "padding", "stride")
    size, kernel, dilation, padding, stride = (ints_of(node, name) for name in names)
    if not all(len(values) == 2 for values in (size, kernel, dilation, padding, stride)):
        raise CorruptFileError("fold takes two values for each attribute, one for each axis")
    if min(*size, *kernel, *dilation, *stride) < 1 or min(padding) < 0:
        raise CorruptFileError("fold takes sizes, kernels, dilations, strides of at least 1, paddings of 0")
    attrs = {"dilations": dilation, "pads": padding * 2, "strides": stride}
    return (b.op("Col2Im", x[0], b.ints(size), b.ints(kernel), **attrs),)


SEARCHES: dict[str, Emitter] = {
    "topk": _topk,
    "grid_sample": _grid_sample,
    "scatter": _scatter,
    "fold": _fold,
}
