"""Operations that look for places, or write to them: largest entries, sampling, scattering, folding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from laconic.errors import CorruptFileError
from laconic.pack.graph.ops import flag_of, int_of, ints_of, text_of
from laconic.records import Node
from laconic.runtime.ops.layers import LARGEST
from laconic.runtime.ops.row import Op, Takes, plain
from laconic.runtime.ops.shape_rules import Given, Shape, axis_at, filled, present, replaced, require

if TYPE_CHECKING:
    from laconic.runtime.onnx_model.builder import Builder


def _topk_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    """The k largest (or smallest) entries along an axis, in order, and their indices."""
    axis, largest = int_of(node, "axis"), int(not flag_of(node, "smallest"))
    return b.ops("TopK", 2, x[0], b.ints((int_of(node, "k"),)), axis=axis, largest=largest, sorted=1)


def _grid_sample_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    attrs = {"mode": text_of(node, "mode"), "padding_mode": text_of(node, "padding")}
    return (b.op("GridSample", x[0], x[1], align_corners=int(flag_of(node, "align")), **attrs),)


def _scatter_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    attrs = {"reduction": text_of(node, "reduce")}
    return (b.op("ScatterElements", *x, axis=int_of(node, "axis"), **attrs),)


def _fold_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    """The sum of overlapping windows (col2im), two axes."""
    names = ("size", "kernel", "dilation", "padding", "stride")
    size, kernel, dilation, padding, stride = (ints_of(node, name) for name in names)
    if not all(len(values) == 2 for values in (size, kernel, dilation, padding, stride)):
        raise CorruptFileError("fold takes two values for each attribute, one for each axis")
    if min(*size, *kernel, *dilation, *stride) < 1 or min(padding) < 0:
        raise CorruptFileError("fold takes sizes, kernels, dilations, strides of at least 1, paddings of 0")
    attrs = {"dilations": dilation, "pads": padding * 2, "strides": stride}
    return (b.op("Col2Im", x[0], b.ints(size), b.ints(kernel), **attrs),)


def _topk_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    x, k = filled(present(given, 0)), int_of(node, "k")
    axis = axis_at(int_of(node, "axis"), len(x))
    require(0 < k <= x[axis], f"there are no {k} largest among {x[axis]}")
    return (replaced(x, axis, k),) * 2


def _grid_sample_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    """An image (N, C, sizes) at the places of a grid (N, sizes, axes)."""
    x, grid = filled(present(given, 0)), filled(present(given, 1))
    ranks = (4,) if text_of(node, "mode") == "cubic" else (4, 5)
    fits = len(x) in ranks and len(grid) == len(x) and grid[0] == x[0] and grid[-1] == len(x) - 2
    require(fits, f"a grid of shape {grid} does not fit an image of shape {x}")
    return ((*x[:2], *grid[1:-1]),)


def _scatter_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    x, index, updates = (filled(present(given, k)) for k in range(3))
    axis = axis_at(int_of(node, "axis"), len(x))
    inside = len(index) == len(x) and all(
        n <= size or k == axis for k, (n, size) in enumerate(zip(index, x, strict=True))
    )
    require(inside, f"indices of shape {index} do not lie in {x}")
    require(updates == index, f"updates of shape {updates} have indices of shape {index}")
    return (x,)


def _fold_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    """Windows (N, channels * kernel, places) back to an image of two axes."""
    x = filled(present(given, 0))
    names = ("size", "kernel", "dilation", "stride", "padding")
    lists = [ints_of(node, name) for name in names]
    require(len(x) == 3 and all(len(values) == 2 for values in lists), f"{x} is not folded to {lists[0]}")
    for name, values in zip(names, lists, strict=True):
        low = 0 if name == "padding" else 1
        require(all(low <= v <= LARGEST for v in values), f"{name} {values} must be in {low}..{LARGEST}")
    places = 1
    for size, kernel, dilation, stride, padding in zip(*lists, strict=True):
        room = size + 2 * padding - dilation * (kernel - 1) - 1
        require(room >= 0, f"a kernel of {kernel} does not fit in {size}")
        places *= room // stride + 1
    window = lists[1][0] * lists[1][1]
    require(x[1] % window == 0 and x[2] == places, f"{x} is not {places} windows of {window} entries")
    return ((x[0], x[1] // window, *lists[0]),)


def _values_and_places(node: Node, inputs: Sequence[str]) -> tuple[str, ...]:
    return (inputs[0], "int64")


ROWS: dict[str, Op] = {
    "topk": plain(_topk_form, _topk_shape, Takes("numbers"), "search")._replace(result=_values_and_places),
    "grid_sample": plain(_grid_sample_form, _grid_sample_shape, Takes(), "sampling"),
    "scatter": plain(_scatter_form, _scatter_shape, Takes(places=1, alike=(0, 2)), "scatter"),
    "fold": plain(_fold_form, _fold_shape, Takes(), "reduction"),
}
