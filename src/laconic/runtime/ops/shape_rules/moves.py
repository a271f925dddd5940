"""Shape rules of operations that move values: reshaping, slicing, joining, padding, gathering, resizing."""

from __future__ import annotations

from laconic.pack.graph.ops import int_of, ints_of, text_of
from laconic.records import Node
from laconic.runtime.ops.shape_rules.arithmetic import same
from laconic.runtime.ops.shape_rules.common import (
    Given,
    Rule,
    Shape,
    axes_at,
    axis_at,
    broadcast,
    entries,
    filled,
    present,
    replaced,
    require,
)


def _flatten(node: Node, given: Given) -> tuple[Shape, ...]:
    x, axis = present(given, 0), int_of(node, "axis")
    require(-len(x) <= axis <= len(x), f"axis {axis} does not exist in {len(x)} dimensions")
    axis += len(x) if axis < 0 else 0
    return ((entries(x[:axis]), entries(x[axis:])),)


def _reshape(node: Node, given: Given) -> tuple[Shape, ...]:
    """0 copies an axis, one -1 takes what is left."""
    x, wanted = present(given, 0), list(ints_of(node, "shape"))
    for axis, size in enumerate(wanted):
        if size == 0:
            require(axis < len(x), f"axis {axis} of {x} cannot be copied")
            wanted[axis] = x[axis]
    require(wanted.count(-1) <= 1 and min(wanted, default=0) >= -1, f"{tuple(wanted)} is no shape")
    if -1 in wanted:
        rest = entries(tuple(size for size in wanted if size != -1))
        require(rest > 0 and entries(x) % rest == 0, f"{x} does not become {tuple(wanted)}")
        wanted[wanted.index(-1)] = entries(x) // rest
    require(entries(tuple(wanted)) == entries(x), f"{x} does not become {tuple(wanted)}")
    return (tuple(wanted),)


def _permute(node: Node, given: Given) -> tuple[Shape, ...]:
    x, perm = present(given, 0), ints_of(node, "perm")
    require(sorted(perm) == list(range(len(x))), f"{perm} is no order of {len(x)} axes")
    return (tuple(x[axis] for axis in perm),)


def _unsqueeze(node: Node, given: Given) -> tuple[Shape, ...]:
    x, dims = present(given, 0), ints_of(node, "dims")
    rank = len(x) + len(dims)
    new, rest = axes_at(dims, rank), iter(x)
    return (tuple(1 if axis in new else next(rest) for axis in range(rank)),)


def _squeeze(node: Node, given: Given) -> tuple[Shape, ...]:
    x, dims = present(given, 0), ints_of(node, "dims")
    gone = axes_at(dims, len(x))
    require(all(x[axis] == 1 for axis in gone), f"axes {dims} of {x} are not all 1 long")
    return (tuple(size for axis, size in enumerate(x) if axis not in gone),)


def _slice(node: Node, given: Given) -> tuple[Shape, ...]:
    x = present(given, 0)
    axis, step = axis_at(int_of(node, "axis"), len(x)), int_of(node, "step")
    require(step != 0, "a step of 0 goes nowhere")
    size = x[axis]
    start, end = (at + size if at < 0 else at for at in (int_of(node, "start"), int_of(node, "end")))
    low, high = (
        (0, size) if step > 0 else (-1, size - 1)
    )  # backwards, a start in front of the axis is its first
    kept = range(max(0, min(start, high)), max(low, min(end, high)), step)
    return (replaced(x, axis, len(kept) if size else 0),)


def _select(node: Node, given: Given) -> tuple[Shape, ...]:
    x, index = present(given, 0), int_of(node, "index")
    axis = axis_at(int_of(node, "axis"), len(x))
    require(-x[axis] <= index < x[axis], f"entry {index} does not exist among {x[axis]}")
    return ((*x[:axis], *x[axis + 1 :]),)


def _concat(node: Node, given: Given) -> tuple[Shape, ...]:
    shapes = [present(given, k) for k in range(len(given))]
    x = shapes[0]
    axis = axis_at(int_of(node, "axis"), len(x))
    for shape in set(shapes):
        fits = len(shape) == len(x) and replaced(shape, axis, 0) == replaced(x, axis, 0)
        require(fits, f"shapes {x} and {shape} do not join along axis {axis}")
    return (replaced(x, axis, sum(shape[axis] for shape in shapes)),)


def _stack(node: Node, given: Given) -> tuple[Shape, ...]:
    shapes = {present(given, k) for k in range(len(given))}
    require(len(shapes) == 1, f"shapes {' and '.join(map(str, sorted(shapes)[:2]))} do not stack")
    (x,) = shapes
    axis = axis_at(int_of(node, "axis"), len(x) + 1)
    return ((*x[:axis], len(given), *x[axis:]),)


def _expand(node: Node, given: Given) -> tuple[Shape, ...]:
    """The free size is filled in before (see ``follow``)."""
    shape = ints_of(node, "shape")
    require(min(shape, default=0) >= 0, f"{shape} is no shape")
    return (broadcast(present(given, 0), shape),)


def _tile(node: Node, given: Given) -> tuple[Shape, ...]:
    x, repeats = filled(present(given, 0)), ints_of(node, "repeats")
    require(len(repeats) == len(x) and min(repeats, default=1) > 0, f"{repeats} does not repeat {x}")
    return (tuple(size * times for size, times in zip(x, repeats, strict=True)),)


def _pad(node: Node, given: Given) -> tuple[Shape, ...]:
    """(begin, end) pairs from the last axis backwards; below 0 they cut, and must leave something."""
    x, pads, mode = filled(present(given, 0)), ints_of(node, "pads"), text_of(node, "mode")
    require(len(pads) % 2 == 0 and len(pads) <= 2 * len(x), f"{pads} are no pairs for the axes of {x}")
    shape = list(x)
    for k in range(0, len(pads), 2):
        axis, ends = len(x) - 1 - k // 2, pads[k : k + 2]
        cut = sum(min(0, end) for end in ends)
        require(x[axis] + cut > 0, f"pads of {ends} leave nothing of {x[axis]}")
        most = {"reflect": x[axis] - 1, "wrap": x[axis]}.get(mode)
        require(most is None or max(ends) <= most, f"{mode} pads of {ends} read beyond {x[axis]}")
        require(mode == "constant" or min(ends) >= 0, f"{mode} pads of {ends} cannot cut")
        shape[axis] += sum(ends)
    return (tuple(shape),)


def _take(node: Node, given: Given) -> tuple[Shape, ...]:
    x, index = filled(present(given, 0)), present(given, 1)
    axis = axis_at(int_of(node, "axis"), len(x))
    return ((*x[:axis], *index, *x[axis + 1 :]),)


def _gather(node: Node, given: Given) -> tuple[Shape, ...]:
    x, index = filled(present(given, 0)), present(given, 1)
    axis = axis_at(int_of(node, "axis"), len(x))
    inside = len(index) == len(x) and all(
        n <= size or k == axis for k, (n, size) in enumerate(zip(index, x, strict=True))
    )
    require(inside, f"indices of shape {index} do not lie in {x}")
    return (index,)


def _resize(node: Node, given: Given) -> tuple[Shape, ...]:
    x, size = filled(present(given, 0)), ints_of(node, "size")
    require(len(x) == 2 + len(size) and min(size, default=0) > 0, f"{x} is not resized to {size}")
    return ((*x[:2], *size),)


def _pixel_shuffle(node: Node, given: Given) -> tuple[Shape, ...]:
    x, factor = filled(present(given, 0)), int_of(node, "factor")
    fits = len(x) == 4 and 0 < factor < 2**16 and x[1] % factor**2 == 0
    require(fits, f"the channels of {x} are no multiple of {factor}^2")
    return ((x[0], x[1] // factor**2, x[2] * factor, x[3] * factor),)


MOVE_RULES: dict[str, Rule] = {
    "flatten": _flatten,
    "reshape": _reshape,
    "permute": _permute,
    "unsqueeze": _unsqueeze,
    "squeeze": _squeeze,
    "slice": _slice,
    "select": _select,
    "concat": _concat,
    "stack": _stack,
    "expand": _expand,
    "tile": _tile,
    "pad": _pad,
    "cast": same,
    "identity": same,
    "take": _take,
    "gather": _gather,
    "resize": _resize,
    "pixel_shuffle": _pixel_shuffle,
}
