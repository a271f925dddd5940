"""Lowering rules for views, slices, concatenation, padding, look-ups and matrix products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from laconic.errors import CaptureError
from laconic.export.lowering import (
    Call,
    Lowering,
    Ref,
    Rule,
    Size,
    Value,
    float32,
    is_free,
    same_shape,
    same_size,
)
from laconic.export.rules_math import binary, cast
from laconic.pack.graph.ops import GIVEN

aten = torch.ops.aten


def _same(low: Lowering, call: Call) -> Value:
    """Operations that change no value at inference: contiguous, clone, detach, dropout."""
    return call.value("self") if "self" in call else call.value("input")


def _dropout(low: Lowering, call: Call) -> Value:
    if call.get("train"):
        raise CaptureError("dropout stays active in evaluation mode. Cure: pass training=self.training")
    call.ignore("p")
    return call.value("input")


def _to(low: Lowering, call: Call) -> Value:
    call.ignore("other")
    return cast(low, call.value("self"), call.dtype)


def _reshape(low: Lowering, call: Call) -> Value:
    """All views that are determined by the result's shape; consecutive ones become one reshape."""
    call.ignore("dim")  # of unflatten
    x = low.ref(call.value("self"))
    if x.dtype != call.dtype:
        raise CaptureError("a view of a value's bytes as another type has no rule")
    producer = low.producer(x)
    if same_shape(x.shape, call.shape):
        return x
    if producer is not None and producer.op in ("reshape", "flatten"):
        source = producer.inputs[0]
        if source is not None and low.needs_no_source(call.shape):
            return low.reshape(Ref(source, (), x.dtype), call.shape)
    elif len(call.shape) == 2 and len(x.shape) > 1 and same_size(call.shape[0], x.shape[0]):
        return low.emit("flatten", x)
    return low.reshape(x, call.shape, x.shape)


def _permute(low: Lowering, x: Value, perm: list[int]) -> Value:
    if perm == list(range(len(perm))):
        return x
    return low.emit("permute", x, perm=tuple(perm))


def _permute_dims(low: Lowering, call: Call) -> Value:
    rank = len(call.value("self").shape)
    return _permute(low, call.value("self"), [d % rank for d in call.integers("dims")])


def _transpose(low: Lowering, call: Call) -> Value:
    perm = list(range(len(call.value("self").shape)))
    a, b = call.axis("dim0"), call.axis("dim1")
    perm[a], perm[b] = perm[b], perm[a]
    return _permute(low, call.value("self"), perm)


def _reverse_axes(low: Lowering, call: Call) -> Value:
    """t(), .T, .mT, adjoint: the last two axes swap (``numpy_T`` reverses all)."""
    perm = list(range(len(call.value("self").shape)))
    perm = perm[::-1] if call.name == "numpy_T" else perm[:-2] + perm[:-3:-1]
    return _permute(low, call.value("self"), perm)


def _movedim(low: Lowering, call: Call) -> Value:
    rank = len(call.value("self").shape)
    source = [d % rank for d in call.integers("source")]
    target = [d % rank for d in call.integers("destination")]
    rest = iter(d for d in range(rank) if d not in source)
    placed = dict(zip(target, source, strict=True))
    return _permute(low, call.value("self"), [placed[k] if k in placed else next(rest) for k in range(rank)])


def _unsqueeze(low: Lowering, call: Call) -> Ref:
    dim = call.integer("dim")
    return low.emit("unsqueeze", call.value("self"), dims=(dim if dim >= 0 else dim + len(call.shape),))


def _squeeze(low: Lowering, call: Call) -> Value:
    x = call.value("self")
    rank = len(x.shape)
    asked = [d % rank for d in call.integers("dim")] if "dim" in call else range(rank)
    dims = tuple(d for d in asked if not is_free(x.shape[d]) and int(x.shape[d]) == 1)
    if not dims:
        return x
    return low.emit("squeeze", x, dims=(-1,) if dims == (rank - 1,) else dims)


def _slice(low: Lowering, call: Call) -> Value:
    x, axis = call.value("self"), call.axis("dim")
    start, end, step = call.get("start"), call.get("end"), call.integer("step")
    start = 0 if start is None else start
    if same_shape(x.shape, call.shape) and step == 1:
        return x
    return _cut(low, x, axis, start, end, step)


def _cut(low: Lowering, x: Value, axis: int, start: Size, end: Size | None, step: int = 1) -> Ref:
    """A slice whose begin and end may be free."""
    size = x.shape[axis]
    to_end = end is None or same_size(end, size) or not is_free(end) and int(end) >= 2**62
    begin = low.number(start) if is_free(start) else None
    last = low.number(end) if is_free(end) and not to_end else None
    fixed_end = None if to_end or is_free(end) or end is None else int(end)
    first = 0 if is_free(start) else int(start)
    return low.emit("slice", x, begin, last, axis=axis, start=first, end=fixed_end, step=step)


def _select(low: Lowering, call: Call) -> Ref:
    return low.emit("select", call.value("self"), axis=call.axis("dim"), index=call.integer("index"))


def _pieces(low: Lowering, call: Call) -> list[Value]:
    """split, chunk, tensor_split: consecutive slices with the sizes of the results."""
    x, axis = call.value("self"), call.axis("dim")
    call.ignore("chunks", "split_size", "split_sizes", "sections", "indices", "tensor_indices_or_sections")
    sizes = [piece.shape[axis] for piece in call.result]
    if len(sizes) == 1:
        return [x]
    starts = [sum(sizes[:k]) for k in range(len(sizes))]
    ends = [*starts[1:], None]
    return [low.ref(_cut(low, x, axis, a, b)) for a, b in zip(starts, ends, strict=True)]


def _unbind(low: Lowering, call: Call) -> list[Ref]:
    axis = call.axis("dim")
    return [low.emit("select", call.value("self"), axis=axis, index=k) for k in range(len(call.result))]


def _join(op: str) -> Rule:
    def rule(low: Lowering, call: Call) -> Ref:
        tensors = [t for t in call.get("tensors") if op == "stack" or tuple(t.shape) != (0,)]
        axis = call.integer("dim") % len(call.shape)
        return low.emit(op, *(cast(low, t, call.dtype) for t in tensors), axis=axis)

    return rule


def _expand(low: Lowering, call: Call) -> Value:
    x = call.value("self")
    call.ignore("other")
    if same_shape(x.shape, call.shape):
        return x
    return low.expand(x, call.shape, x.shape)


def _repeat(low: Lowering, call: Call) -> Value:
    x, repeats = call.value("self"), list(call.get("repeats", call.get("dims")))
    repeats = [1] * (len(x.shape) - len(repeats)) + repeats
    while len(x.shape) < len(repeats):
        x = Ref(low.emit("unsqueeze", x, dims=(0,)).id, (1, *x.shape), x.dtype)
    stretch = all(same_size(r, 1) or same_size(s, 1) for r, s in zip(repeats, x.shape, strict=True))
    if stretch:
        return low.expand(x, call.shape, x.shape)
    if any(map(is_free, repeats)):
        return _tile(low, x, repeats, call.shape)
    return low.emit("tile", x, repeats=tuple(map(int, repeats)))


def _tile(low: Lowering, x: Value, repeats: Sequence[Size], shape: Sequence[Size]) -> Ref:
    """Repeats by free numbers: a new axis of copies before each axis, then both are merged."""
    apart = [size for s in x.shape for size in (1, s)]
    wide = [size for pair in zip(repeats, x.shape, strict=True) for size in pair]
    spread = low.emit("unsqueeze", x, dims=tuple(range(0, len(apart), 2)))
    return low.reshape(low.expand(spread, wide, apart), shape)


def _repeat_interleave(low: Lowering, call: Call) -> Value:
    """Each entry n times in a row: a new axis of size n after the old one, then both are merged."""
    if not isinstance(call.get("repeats"), int) or call.get("dim") is None:
        raise CaptureError("repeat_interleave is supported for one number of repeats and a given axis only")
    x, axis, times = call.value("self"), call.axis("dim"), call.integer("repeats")
    apart = low.emit("unsqueeze", x, dims=(axis + 1,))
    wide = low.emit("expand", apart, shape=(1,) * (axis + 1) + (times,) + (1,) * (len(x.shape) - axis - 1))
    return low.reshape(wide, call.shape)


_PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def _pad(low: Lowering, call: Call) -> Value:
    x, pads = call.value("self"), call.integers("pad")
    if min(pads, default=0) < 0:
        raise CaptureError("negative padding has no rule. Cure: slice instead")
    if not any(pads):
        return x
    mode = _PAD_MODES[call.get("mode", "constant")]
    return low.emit("pad", x, pads=pads, mode=mode, value=float32(call.get("value") or 0.0))


def _flip(low: Lowering, call: Call) -> Value:
    x = call.value("self")
    for dim in call.integers("dims"):
        x = low.emit("slice", x, axis=dim % len(call.shape), start=-1, end=-(2**62), step=-1)
    return x


def _roll(low: Lowering, call: Call) -> Value:
    x = call.value("self")
    shape = x.shape
    if not call.integers("dims"):
        raise CaptureError("roll without dims has no rule. Cure: name the dims to roll")
    for shift, dim in zip(call.integers("shifts"), call.integers("dims"), strict=True):
        axis = dim % len(shape)
        cut = (
            -shift if is_free(shape[axis]) else -shift % int(shape[axis])
        )  # from the end, where it is negative
        if cut:
            head, tail = low.emit("slice", x, axis=axis, end=cut), low.emit("slice", x, axis=axis, start=cut)
            x = low.emit("concat", tail, head, axis=axis)
    return x


def _take(low: Lowering, call: Call) -> Ref:
    index = call.value("index")
    if not index.shape:  # index_select keeps the axis also for a single index
        index = (
            index.reshape(1) if isinstance(index, torch.Tensor) else low.emit("unsqueeze", index, dims=(0,))
        )
    return low.emit("take", call.value("self"), index, axis=call.axis("dim"))


def _gather(low: Lowering, call: Call) -> Ref:
    return low.emit("gather", call.value("self"), call.value("index"), axis=call.axis("dim"))


def _whole(sizes: Sequence[Size], old: Sequence[Size], scales: Sequence[float | None]) -> bool:
    """Whether every axis grows by a whole factor, the scale (if one was given) being that factor."""
    return all(
        factor is not None and (s is None or float(s) == factor)
        for factor, s in zip(map(_factor, sizes, old), scales, strict=True)
    )


def _factor(new: Size, old: Size) -> int | None:
    """The whole factor between two sizes, None where there is none (or not in every call)."""
    if is_free(new) and is_free(old):
        ratio = new.node.expr / old.node.expr  # type: ignore[union-attr]
        return int(ratio) if ratio.is_Integer else None
    if is_free(new) or is_free(old) or int(new) % int(old):
        return None
    return int(new) // int(old)


def _nearest(low: Lowering, x: Value, sizes: Sequence[Size], scales: Sequence[float | None]) -> Ref:
    """Nearest neighbours by any factor: one look-up per axis, at the indices that PyTorch chooses."""
    if any(map(is_free, (*sizes, *x.shape[2:]))):
        raise CaptureError("nearest neighbours of a free axis are supported for whole factors only")
    for axis, (size, scale) in enumerate(zip(sizes, scales, strict=True), start=2):
        places = torch.arange(int(x.shape[axis]), dtype=torch.float32)[None, None]  # the type decides, too
        chosen = aten.upsample_nearest1d(places, [int(size)], scale)[0, 0].long()
        x = replace(low.emit("take", x, chosen, axis=axis), shape=x.shape)
    return low.ref(x)


def _resize(mode: str) -> Rule:
    def rule(low: Lowering, call: Call) -> Ref:
        x = call.value("self") if "self" in call else call.value("input")
        size = call.shape[2:]
        one_each = [call.get(k) for k in call.args if k.startswith("scales")]
        scales = call.get("scale_factors") or one_each or [None] * len(size)
        if mode == "nearest" and not _whole(size, x.shape[2:], scales):
            return _nearest(low, x, size, scales)
        if any(s is not None and (is_free(s) or float(s) % 1) for s in scales):
            raise CaptureError("interpolation by a scale that is not whole has no rule. Cure: give size=")
        align = bool(call.get("align_corners", False))
        given = [low.number(n) for n in size if is_free(n)]
        fixed = tuple(GIVEN if is_free(n) else int(n) for n in size)
        return low.emit("resize", x, *given, size=fixed, mode=mode, align=align)

    return rule


def _pixel_shuffle(low: Lowering, call: Call) -> Ref:
    return low.emit("pixel_shuffle", call.value("self"), factor=call.integer("upscale_factor"))


def _matmul(low: Lowering, call: Call) -> Ref:
    right = next(call.value(k) for k in ("other", "mat2", "vec", "tensor") if k in call)
    return low.emit("matmul", call.value("self"), right)


def _add_product(low: Lowering, call: Call) -> Ref:
    """Beta * self + alpha * a @ b (addmm, baddbmm, addmv)."""
    names = [k for k in ("mat1", "mat2", "batch1", "batch2", "mat", "vec") if k in call]
    product = low.emit("matmul", *(call.value(k) for k in names))
    if call.get("alpha", 1) != 1:
        product = low.emit("mul", product, scalar=float32(call.get("alpha")))
    addend = call.value("self")
    if call.get("beta", 1) != 1:
        addend = binary(low, "mul", addend, call.get("beta"), torch.float32)
    return low.emit("add", product, addend)


def _einsum(low: Lowering, call: Call) -> Ref:
    equation = str(call.get("equation")).replace(" ", "")
    return low.emit("einsum", *call.get("tensors"), equation=equation)


def _cumsum(low: Lowering, call: Call) -> Ref:
    return low.emit("cumsum", cast(low, call.value("self"), call.dtype), axis=call.axis("dim"))


SHAPE_RULES: Mapping[object, Rule] = {
    **{
        getattr(aten, k): _same
        for k in ("contiguous", "clone", "detach", "detach_", "alias", "lift_fresh_copy")
    },
    **{getattr(aten, k): _dropout for k in ("dropout", "alpha_dropout", "feature_dropout")},
    **{getattr(aten, k): _reshape for k in ("view", "reshape", "flatten", "unflatten", "_unsafe_view")},
    **{getattr(aten, k): _reverse_axes for k in ("t", "mT", "numpy_T", "adjoint")},
    **{getattr(aten, k): _expand for k in ("expand", "expand_as", "broadcast_to")},
    **{getattr(aten, k): _matmul for k in ("matmul", "mm", "bmm", "mv", "dot")},
    **{getattr(aten, k): _add_product for k in ("addmm", "baddbmm", "addmv")},
    **{getattr(aten, k): _pieces for k in ("split", "split_with_sizes", "chunk", "tensor_split")},
    **{getattr(aten, f"upsample_nearest{n}d"): _resize("nearest") for n in (1, 2, 3)},
    aten.upsample_linear1d: _resize("linear"),
    aten.upsample_bilinear2d: _resize("linear"),
    aten.upsample_trilinear3d: _resize("linear"),
    aten.upsample_bicubic2d: _resize("cubic"),
    aten.lift_fresh: _same,
    aten.lift_fresh_copy: _same,
    aten.to: _to,
    aten._to_copy: _to,
    aten.type_as: _to,
    aten.permute: _permute_dims,
    aten.transpose: _transpose,
    aten.movedim: _movedim,
    aten.unsqueeze: _unsqueeze,
    aten.squeeze: _squeeze,
    aten.slice: _slice,
    aten.select: _select,
    aten.unbind: _unbind,
    aten.cat: _join("concat"),
    aten.concat: _join("concat"),
    aten.stack: _join("stack"),
    aten.repeat: _repeat,
    aten.tile: _repeat,
    aten.repeat_interleave: _repeat_interleave,
    aten.pad: _pad,
    aten.constant_pad_nd: _pad,
    aten.flip: _flip,
    aten.roll: _roll,
    aten.index_select: _take,
    aten.gather: _gather,
    aten.pixel_shuffle: _pixel_shuffle,
    aten.einsum: _einsum,
    aten.cumsum: _cumsum,
}
"""``aten`` operation -> rule."""
