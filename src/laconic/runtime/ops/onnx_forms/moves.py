"""ONNX emitters that move values without changing them: reshape, slice, concat, pad, gather."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from laconic.errors import CorruptFileError
from laconic.pack.graph.ops import GIVEN, flag_of, float_of, int_of, ints_of, text_of
from laconic.records import Node
from laconic.runtime.onnx_model.builder import Builder, Emitter
from laconic.runtime.onnx_model.protos import ONNX_TYPES

LONGEST_RANGE = 2**22
"""Entries of an ``arange`` at most: a number in a file must not fill the memory."""


def _flatten(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
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


def _reshape(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Reshape", x[0], _shape(b, ints_of(node, "shape"), x[1:])),)


def _size(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    """The number of entries along an axis, as an int64 without dimensions."""
    return (b.op("Squeeze", _shape_at(b, x[0], int_of(node, "axis")), b.ints((0,))),)


def _shape_at(b: Builder, name: str, axis: int) -> str:
    if axis == -1:
        return b.op("Shape", name, start=-1)
    return b.op("Shape", name, start=axis, end=axis + 1)


def _arange(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    zero, one, most = (b.constant(np.asarray(n, dtype=np.int64)) for n in (0, 1, LONGEST_RANGE))
    return (b.op("Range", zero, b.op("Min", x[0], most), one),)


def _divisor(b: Builder, name: str) -> str:
    """A divisor below 1 counts as 1: processors trap on a division by zero."""
    return b.op("Max", name, b.constant(np.asarray(1, dtype=np.int64)))


def _floor_divide(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    """ONNX' quotient of integers is cut towards zero, so the rest is taken off first."""
    divisor = _divisor(b, x[1])
    return (b.op("Div", b.op("Sub", x[0], b.op("Mod", x[0], divisor)), divisor),)


def _remainder(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Mod", x[0], _divisor(b, x[1])),)


def _permute(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Transpose", x[0], perm=ints_of(node, "perm")),)


def _unsqueeze(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Unsqueeze", x[0], b.ints(ints_of(node, "dims"))),)


def _squeeze(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    dims = ints_of(node, "dims")
    return (b.op("Squeeze", x[0], b.ints(dims)) if dims else b.op("Identity", x[0]),)  # ONNX: none is all


def _slice(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    """Begin and end are attributes, or sizes among the inputs."""
    start, end, axis, step = (b.ints((int_of(node, key),)) for key in ("start", "end", "axis", "step"))
    given = [b.op("Unsqueeze", name, b.ints((0,))) if name else "" for name in (*x[1:], "", "")]
    return (b.op("Slice", x[0], given[0] or start, given[1] or end, axis, step),)


def _select(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    index = b.constant(np.asarray(int_of(node, "index"), dtype=np.int64))
    return (b.op("Gather", x[0], index, axis=int_of(node, "axis")),)


def _concat(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Concat", *x, axis=int_of(node, "axis")),)


def _stack(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    axis = int_of(node, "axis")
    return (b.op("Concat", *(b.op("Unsqueeze", name, b.ints((axis,))) for name in x), axis=axis),)


def _expand(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    """1 keeps an axis, n > 1 stretches it, -1 stretches it to the inputs' free size, -2 to a given one."""
    shape = ints_of(node, "shape")
    free = b.free_size() if -1 in shape else ""
    return (b.op("Expand", x[0], _shape(b, shape, x[1:], free)),)


def _tile(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Tile", x[0], b.ints(ints_of(node, "repeats"))),)


def pads_of(pairs: Sequence[int], rank: int) -> list[int]:
    """ONNX pads of all axes, begins then ends, from (begin, end) pairs from the last axis backwards.

    >>> pads_of((1, 2, 3, 4), 3)
    [0, 3, 1, 0, 4, 2]
    """
    rest = [0] * (rank - len(pairs) // 2)
    return [*rest, *pairs[::2][::-1], *rest, *pairs[1::2][::-1]]


def _pad(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    """``pads`` holds (begin, end) pairs from the last axis backwards, as PyTorch writes them."""
    pads, mode = ints_of(node, "pads"), text_of(node, "mode")
    axes = range(-1, -len(pads) // 2 - 1, -1)
    value = b.scalar(float_of(node, "value")) if mode == "constant" else ""
    rank = b.rank(x[0])
    if rank is not None and len(axes) < rank:
        # ONNX Runtime 1.32 mixes up a Pad's axes when it moves a transposition past it, so none are left out
        return (b.op("Pad", x[0], b.ints(pads_of(pads, rank)), value, mode=mode),)
    return (b.op("Pad", x[0], b.ints(pads[::2] + pads[1::2]), value, b.ints(axes), mode=mode),)


def _cast(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Cast", x[0], to=ONNX_TYPES[text_of(node, "to")]),)


def _take(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Gather", x[0], x[1], axis=int_of(node, "axis")),)


def _gather(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("GatherElements", x[0], x[1], axis=int_of(node, "axis")),)


def _resize(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
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


def _pixel_shuffle(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("DepthToSpace", x[0], blocksize=int_of(node, "factor"), mode="CRD"),)


def _identity(b: Builder, node: Node, x: tuple[str, ...]) -> tuple[str, ...]:
    return (b.op("Identity", x[0]),)


SHAPES: dict[str, Emitter] = {
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
    "cast": _cast,
    "take": _take,
    "gather": _gather,
    "resize": _resize,
    "pixel_shuffle": _pixel_shuffle,
    "identity": _identity,
    "size": _size,
    "arange": _arange,
    "floor_divide": _floor_divide,
    "remainder": _remainder,
}
