"""Shape rules of operations that count, look for places, or scatter to them."""

from __future__ import annotations

from laconic.errors import CorruptFileError
from laconic.pack.graph.ops import int_of, ints_of, text_of
from laconic.records import Node
from laconic.runtime.ops.onnx_forms.moves import LONGEST_RANGE
from laconic.runtime.ops.shape_rules.common import (
    Given,
    Rule,
    Shape,
    axis_at,
    broadcast,
    filled,
    present,
    replaced,
    require,
)
from laconic.runtime.ops.shape_rules.layers import LARGEST
from laconic.runtime.ops.shape_rules.numbers import COUNT


def _size(node: Node, given: Given) -> tuple[Shape, ...]:
    axis_at(int_of(node, "axis"), len(present(given, 0)))
    return ((),)


def _arange(node: Node, given: Given) -> tuple[Shape, ...]:
    """The number is filled in before (see ``numbers``)."""
    count = node.attrs[COUNT]
    if present(given, 0) != () or not isinstance(count, int):
        raise CorruptFileError("it counts to what is no number")
    return ((max(0, min(count, LONGEST_RANGE)),),)


def _divided(node: Node, given: Given) -> tuple[Shape, ...]:
    return (broadcast(present(given, 0), present(given, 1)),)


def _topk(node: Node, given: Given) -> tuple[Shape, ...]:
    x, k = filled(present(given, 0)), int_of(node, "k")
    axis = axis_at(int_of(node, "axis"), len(x))
    require(0 < k <= x[axis], f"there are no {k} largest among {x[axis]}")
    return (replaced(x, axis, k),) * 2


def _grid_sample(node: Node, given: Given) -> tuple[Shape, ...]:
    """An image (N, C, sizes) at the places of a grid (N, sizes, axes)."""
    x, grid = filled(present(given, 0)), filled(present(given, 1))
    ranks = (4,) if text_of(node, "mode") == "cubic" else (4, 5)
    fits = len(x) in ranks and len(grid) == len(x) and grid[0] == x[0] and grid[-1] == len(x) - 2
    require(fits, f"a grid of shape {grid} has no places in an image of shape {x}")
    return ((*x[:2], *grid[1:-1]),)


def _scatter(node: Node, given: Given) -> tuple[Shape, ...]:
    x, index, updates = (filled(present(given, k)) for k in range(3))
    axis = axis_at(int_of(node, "axis"), len(x))
    inside = len(index) == len(x) and all(
        n <= size or k == axis for k, (n, size) in enumerate(zip(index, x, strict=True))
    )
    require(inside, f"indices of shape {index} do not lie in {x}")
    require(updates == index, f"updates of shape {updates} have indices of shape {index}")
    return (x,)


def _fold(node: Node, given: Given) -> tuple[Shape, ...]:
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
        require(room >= 0, f"a kernel of {kernel} finds no place in {size}")
        places *= room // stride + 1
    window = lists[1][0] * lists[1][1]
    require(x[1] % window == 0 and x[2] == places, f"{x} is not {places} windows of {window} entries")
    return ((x[0], x[1] // window, *lists[0]),)


SEARCH_RULES: dict[str, Rule] = {
    "size": _size,
    "arange": _arange,
    "floor_divide": _divided,
    "remainder": _divided,
    "topk": _topk,
    "grid_sample": _grid_sample,
    "scatter": _scatter,
    "fold": _fold,
}
