"""Operations that move values without changing them: reshape, slice, concat, pad, gather, resize."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from laconic.errors import CorruptFileError
from laconic.pack.graph.ops import GIVEN, flag_of, float_of, int_of, ints_of, text_of
from laconic.records import Node
from laconic.runtime.ops.arithmetic import same
from laconic.runtime.ops.row import (
    Cost,
    Emitter,
    Int8,
    Op,
    RankRule,
    Takes,
    listed_axes,
    plain,
    rank_of_first,
    unknown_rank,
)
from laconic.runtime.ops.shape_rules import (
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

if TYPE_CHECKING:
    from laconic.runtime.onnx_model.builder import Builder


def _flatten_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Flatten", x[0], axis=int_of(node, "axis")),)


def _shape(b: Builder, shape: Sequence[int], sizes: Sequence[str], free: str = "") -> str:
    """A shape as one vector: the next of ``sizes`` at each -2 and, where it is given, ``free`` at each -1."""
    if shape.count(GIVEN) != len(sizes) or not all(sizes):
        raise CorruptFileError(f"the shape {tuple(shape)} is given {len(sizes)} sizes")
    if not sizes and not free:
        return b.ints(shape)
    given = iter(sizes)
    parts = [
        b.op("Unsqueeze", next(given), b.ints((0,)))
        if size == GIVEN
        else free
        if size == -1 and free
        else b.ints((size,))
        for size in shape
    ]
    return b.op("Concat", *parts, axis=0)


def _reshape_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Reshape", x[0], _shape(b, ints_of(node, "shape"), x[1:])),)


def _permute_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Transpose", x[0], perm=ints_of(node, "perm")),)


def _unsqueeze_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Unsqueeze", x[0], b.ints(ints_of(node, "dims"))),)


def _squeeze_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    dims = ints_of(node, "dims")
    # in ONNX, no axes means all of size 1
    return (b.op("Squeeze", x[0], b.ints(dims)) if dims else b.op("Identity", x[0]),)


def _slice_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    """Begin and end are attributes, or sizes among the inputs."""
    start, end, axis, step = (b.ints((int_of(node, key),)) for key in ("start", "end", "axis", "step"))
    given = [b.op("Unsqueeze", name, b.ints((0,))) if name else "" for name in (*x[1:], "", "")]
    return (b.op("Slice", x[0], given[0] or start, given[1] or end, axis, step),)


def _select_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    index = b.constant(np.asarray(int_of(node, "index"), dtype=np.int64))
    return (b.op("Gather", x[0], index, axis=int_of(node, "axis")),)


def _concat_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Concat", *x, axis=int_of(node, "axis")),)


def _stack_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    axis = int_of(node, "axis")
    return (b.op("Concat", *(b.op("Unsqueeze", name, b.ints((axis,))) for name in x), axis=axis),)


def _expand_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    """1 keeps an axis, n > 1 stretches it, -1 stretches it to the inputs' free size, -2 to a given one."""
    shape = ints_of(node, "shape")
    free = b.free_size() if -1 in shape else ""
    return (b.op("Expand", x[0], _shape(b, shape, x[1:], free)),)


def _tile_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Tile", x[0], b.ints(ints_of(node, "repeats"))),)


def pads_of(pairs: Sequence[int], rank: int) -> list[int]:
    """ONNX pads of all axes, begins then ends, from (begin, end) pairs from the last axis backwards.

    >>> pads_of((1, 2, 3, 4), 3)
    [0, 3, 1, 0, 4, 2]
    """
    rest = [0] * (rank - len(pairs) // 2)
    return [*rest, *pairs[::2][::-1], *rest, *pairs[1::2][::-1]]


def _pad_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    """``pads`` holds (begin, end) pairs from the last axis backwards, as PyTorch writes them."""
    pads, mode = ints_of(node, "pads"), text_of(node, "mode")
    axes = range(-1, -len(pads) // 2 - 1, -1)
    value = b.scalar(float_of(node, "value")) if mode == "constant" else ""
    rank = b.rank(x[0])
    if rank is not None and len(axes) < rank:
        # ONNX Runtime 1.32 mixes up a Pad's axes when it moves a transposition past it, so none are left out
        return (b.op("Pad", x[0], b.ints(pads_of(pads, rank)), value, mode=mode),)
    return (b.op("Pad", x[0], b.ints(pads[::2] + pads[1::2]), value, b.ints(axes), mode=mode),)


def _cast_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.cast(x[0], text_of(node, "to")),)


def _take_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Gather", x[0], x[1], axis=int_of(node, "axis")),)


def _gather_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("GatherElements", x[0], x[1], axis=int_of(node, "axis")),)


def _resize_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    """Spatial axes 2, 3, ... are brought to ``size``; batch and channels are read from the input."""
    mode = text_of(node, "mode")
    corners = "align_corners" if flag_of(node, "align") else "half_pixel"
    kept = b.op("Shape", x[0], start=0, end=2)
    sizes = b.op("Concat", kept, _shape(b, ints_of(node, "size"), x[1:]), axis=0)
    if mode == "nearest":
        how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return (b.op("Resize", x[0], "", "", sizes, mode=mode, **how),)
    attrs = {"coordinate_transformation_mode": corners}
    return (b.op("Resize", x[0], "", "", sizes, mode=mode, cubic_coeff_a=-0.75, **attrs),)


def _pixel_shuffle_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("DepthToSpace", x[0], blocksize=int_of(node, "factor"), mode="CRD"),)


def _identity_form(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Identity", x[0]),)


def _flatten_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    x, axis = present(given, 0), int_of(node, "axis")
    require(-len(x) <= axis <= len(x), f"axis {axis} does not exist in {len(x)} dimensions")
    axis += len(x) if axis < 0 else 0
    return ((entries(x[:axis]), entries(x[axis:])),)


def _reshape_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    """0 copies an axis, one -1 takes what is left."""
    x, wanted = present(given, 0), list(ints_of(node, "shape"))
    for axis, size in enumerate(wanted):
        if size == 0:
            require(axis < len(x), f"axis {axis} of {x} cannot be copied")
            wanted[axis] = x[axis]
    require(wanted.count(-1) <= 1 and min(wanted, default=0) >= -1, f"{tuple(wanted)} is not a shape")
    if -1 in wanted:
        rest = entries(tuple(size for size in wanted if size != -1))
        require(rest > 0 and entries(x) % rest == 0, f"{x} does not become {tuple(wanted)}")
        wanted[wanted.index(-1)] = entries(x) // rest
    require(entries(tuple(wanted)) == entries(x), f"{x} does not become {tuple(wanted)}")
    return (tuple(wanted),)


def _permute_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    x, perm = present(given, 0), ints_of(node, "perm")
    require(sorted(perm) == list(range(len(x))), f"{perm} is no order of {len(x)} axes")
    return (tuple(x[axis] for axis in perm),)


def _unsqueeze_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    x, dims = present(given, 0), ints_of(node, "dims")
    rank = len(x) + len(dims)
    new, rest = axes_at(dims, rank), iter(x)
    return (tuple(1 if axis in new else next(rest) for axis in range(rank)),)


def _squeeze_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    x, dims = present(given, 0), ints_of(node, "dims")
    gone = axes_at(dims, len(x))
    require(all(x[axis] == 1 for axis in gone), f"axes {dims} of {x} are not all 1 long")
    return (tuple(size for axis, size in enumerate(x) if axis not in gone),)


def _slice_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    x = present(given, 0)
    axis, step = axis_at(int_of(node, "axis"), len(x)), int_of(node, "step")
    require(step != 0, "the step of a slice is 0")
    size = x[axis]
    start, end = (at + size if at < 0 else at for at in (int_of(node, "start"), int_of(node, "end")))
    low, high = (
        (0, size) if step > 0 else (-1, size - 1)
    )  # backwards, a start in front of the axis is its first
    kept = range(max(0, min(start, high)), max(low, min(end, high)), step)
    return (replaced(x, axis, len(kept) if size else 0),)


def _select_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    x, index = present(given, 0), int_of(node, "index")
    axis = axis_at(int_of(node, "axis"), len(x))
    require(-x[axis] <= index < x[axis], f"entry {index} does not exist among {x[axis]}")
    return ((*x[:axis], *x[axis + 1 :]),)


def _concat_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    shapes = [present(given, k) for k in range(len(given))]
    x = shapes[0]
    axis = axis_at(int_of(node, "axis"), len(x))
    for shape in set(shapes):
        fits = len(shape) == len(x) and replaced(shape, axis, 0) == replaced(x, axis, 0)
        require(fits, f"shapes {x} and {shape} do not join along axis {axis}")
    return (replaced(x, axis, sum(shape[axis] for shape in shapes)),)


def _stack_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    shapes = {present(given, k) for k in range(len(given))}
    require(len(shapes) == 1, f"shapes {' and '.join(map(str, sorted(shapes)[:2]))} do not stack")
    (x,) = shapes
    axis = axis_at(int_of(node, "axis"), len(x) + 1)
    return ((*x[:axis], len(given), *x[axis:]),)


def _expand_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    """The free size is filled in before (see ``follow``)."""
    shape = ints_of(node, "shape")
    require(min(shape, default=0) >= 0, f"{shape} is not a shape")
    return (broadcast(present(given, 0), shape),)


def _tile_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    x, repeats = filled(present(given, 0)), ints_of(node, "repeats")
    require(len(repeats) == len(x) and min(repeats, default=1) > 0, f"{repeats} does not repeat {x}")
    return (tuple(size * times for size, times in zip(x, repeats, strict=True)),)


def _pad_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    """(begin, end) pairs from the last axis backwards; negative ones cut and must leave an entry."""
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


def _take_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    x, index = filled(present(given, 0)), present(given, 1)
    axis = axis_at(int_of(node, "axis"), len(x))
    return ((*x[:axis], *index, *x[axis + 1 :]),)


def _gather_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    x, index = filled(present(given, 0)), present(given, 1)
    axis = axis_at(int_of(node, "axis"), len(x))
    inside = len(index) == len(x) and all(
        n <= size or k == axis for k, (n, size) in enumerate(zip(index, x, strict=True))
    )
    require(inside, f"indices of shape {index} do not lie in {x}")
    return (index,)


def _resize_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    x, size = filled(present(given, 0)), ints_of(node, "size")
    require(len(x) == 2 + len(size) and min(size, default=0) > 0, f"{x} is not resized to {size}")
    return ((*x[:2], *size),)


def _pixel_shuffle_shape(node: Node, given: Given) -> tuple[Shape, ...]:
    x, factor = filled(present(given, 0)), int_of(node, "factor")
    fits = len(x) == 4 and 0 < factor < 2**16 and x[1] % factor**2 == 0
    require(fits, f"the channels of {x} are no multiple of {factor}^2")
    return ((x[0], x[1] // factor**2, x[2] * factor, x[3] * factor),)


def _cast_type(node: Node, inputs: Sequence[str]) -> tuple[str, ...]:
    return (text_of(node, "to"),)


def _rank_two(node: Node, given: Sequence[int | None]) -> int | None:
    return 2


def _rank_listed(node: Node, given: Sequence[int | None]) -> int | None:
    return listed_axes(node, "shape")


def _rank_minus_one(node: Node, given: Sequence[int | None]) -> int | None:
    first = rank_of_first(node, given)
    return None if first is None else first - 1


def _rank_plus_dims(node: Node, given: Sequence[int | None]) -> int | None:
    first = rank_of_first(node, given)
    return None if first is None else first + listed_axes(node, "dims")


def _pad_int8(node: Node) -> Int8:
    exact = text_of(node, "mode") != "constant" or float_of(node, "value") == 0.0
    return "move" if exact else "float"


def _resize_int8(node: Node) -> Int8:
    return "move" if text_of(node, "mode") == "nearest" else "float"


def _moved(form: Emitter, shape: Rule, cost: Cost = "move", rank: RankRule = unknown_rank) -> Op:
    return plain(form, shape, Takes(), cost)._replace(rank=rank, int8="move")


ROWS: dict[str, Op] = {
    "flatten": _moved(_flatten_form, _flatten_shape, "view", _rank_two)._replace(channels="flattened"),
    "reshape": _moved(_reshape_form, _reshape_shape, "view", _rank_listed)._replace(channels="flattened"),
    "permute": _moved(_permute_form, _permute_shape, rank=rank_of_first),
    "unsqueeze": _moved(_unsqueeze_form, _unsqueeze_shape, "view", _rank_plus_dims),
    "squeeze": _moved(_squeeze_form, _squeeze_shape, "view"),
    "slice": _moved(_slice_form, _slice_shape, "partial", rank_of_first)._replace(channels="sliced"),
    "select": _moved(_select_form, _select_shape, "partial", _rank_minus_one),
    "concat": plain(_concat_form, _concat_shape, Takes(alike=None), "move")._replace(
        rank=rank_of_first, int8="join"
    ),
    "stack": plain(_stack_form, _stack_shape, Takes(alike=None), "move"),
    "expand": _moved(_expand_form, _expand_shape),
    "tile": _moved(_tile_form, _tile_shape),
    "pad": plain(_pad_form, _pad_shape, Takes(), "move")._replace(
        rank=rank_of_first, int8=_pad_int8, channels="padded"
    ),
    "cast": plain(_cast_form, same, Takes(), "move")._replace(result=_cast_type),
    "take": plain(_take_form, _take_shape, Takes(places=1), "partial"),
    "gather": plain(_gather_form, _gather_shape, Takes(places=1), "partial"),
    "resize": plain(_resize_form, _resize_shape, Takes(), "resampling")._replace(
        rank=rank_of_first, int8=_resize_int8, channels="kept"
    ),
    "pixel_shuffle": _moved(_pixel_shuffle_form, _pixel_shuffle_shape, rank=rank_of_first),
    "identity": _moved(_identity_form, same, "view", rank_of_first)._replace(channels="kept"),
}
