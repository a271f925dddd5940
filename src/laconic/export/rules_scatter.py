"""Lowering rules for writing into a value: scatters, assignments to slices, masks and indices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from laconic.errors import CaptureError
from laconic.export.lowering import Call, Lowering, Ref, Rule, Value, is_free, same_shape
from laconic.export.rules_math import cast
from laconic.export.rules_shapes import SHAPE_RULES

aten = torch.ops.aten
_KINDS = {"sum": "add", "add": "add", "prod": "mul", "multiply": "mul", "amax": "max", "amin": "min"}


def _scatter(low: Lowering, call: Call) -> Ref:
    """Entries written, or combined, at the positions along an axis that an index gives."""
    x, index = call.value("self"), call.value("index")
    source = call.get("src", call.get("value"))
    kind = call.get("reduce")
    kind = "add" if call.name == "scatter_add" else "none" if kind is None else _KINDS.get(kind, kind)
    if kind not in ("none", "add", "mul", "max", "min"):
        raise CaptureError(
            f"scatter_reduce by {call.get('reduce')!r} has no rule. Cure: sum, prod, amax or amin "
            "(a mean is a sum over a count)"
        )
    if not call.get("include_self", True):
        neutral = _spread(low, _neutral(kind, call.dtype), index)
        x = low.emit("scatter", x, index, neutral, axis=call.axis("dim"), reduce="none")
    if not isinstance(source, Ref):
        source = torch.as_tensor(source, dtype=call.dtype)
    source = _as_large(low, source, index) if source.shape else _spread(low, source, index)
    return low.emit("scatter", x, index, cast(low, source, call.dtype), axis=call.axis("dim"), reduce=kind)


def _neutral(kind: str, dtype: torch.dtype) -> torch.Tensor:
    """The identity element of a reduction."""
    if kind in ("add", "mul"):
        return torch.tensor(int(kind == "mul"), dtype=dtype)
    lowest: float = -math.inf if dtype.is_floating_point else torch.iinfo(dtype).min
    highest: float = math.inf if dtype.is_floating_point else torch.iinfo(dtype).max
    return torch.tensor(lowest if kind == "max" else highest, dtype=dtype)


def _as_large(low: Lowering, source: Value, index: Value) -> Value:
    """The source cut to the index's shape: PyTorch allows a larger source and ignores the rest."""
    for axis, (have, want) in enumerate(zip(source.shape, index.shape, strict=True)):
        if not is_free(have) and not is_free(want) and int(have) > int(want):
            source = low.emit("slice", source, axis=axis, end=int(want))
    return source


def _spread(low: Lowering, number: Value, index: Value) -> Ref:
    """A number expanded to the shape of the index."""
    nothing = low.emit("mul", index, torch.zeros((), dtype=index.dtype))
    zeros = cast(low, Ref(nothing.id, index.shape, index.dtype), number.dtype)
    return Ref(low.emit("add", zeros, number).id, index.shape, number.dtype)


def _copied(low: Lowering, call: Call) -> Value:
    """copy: a value converted to the shape and type of the one that it overwrites."""
    x, source = call.value("self"), cast(low, call.value("src"), call.dtype)
    if same_shape(source.shape, x.shape):
        return source
    return low.emit("where", _always(x), source, x)


def _always(x: Value) -> torch.Tensor:
    return torch.ones((1,) * len(x.shape), dtype=torch.bool)


def _slice_scatter(low: Lowering, call: Call) -> Value:
    """A replaced slice: the concatenation of the entries before, the new part, and the entries after."""
    x, axis = call.value("self"), call.axis("dim")
    part = cast(low, call.value("src"), call.dtype)
    size = x.shape[axis]
    start, end, step = call.get("start") or 0, call.get("end"), call.integer("step")
    if is_free(start) or (is_free(end) and not is_free(size)) or (is_free(size) and start < 0):
        raise CaptureError("writing to a slice of free size has no rule. Cure: torch.where or torch.cat")
    if step != 1:
        return _every(low, x, part, axis, call)
    to_end = end is None or is_free(end) or int(end) >= 2**62
    if not is_free(size):
        start = min(max(start + int(size) if start < 0 else start, 0), int(size))
        last = int(size) if to_end else int(end) + (int(size) if int(end) < 0 else 0)
        last, to_end = min(last, int(size)), to_end or last >= int(size)
    else:
        last = 0 if to_end else int(end)
    pieces: list[Value] = [low.emit("slice", x, axis=axis, end=int(start))] if start else []
    pieces.append(part)
    if not to_end:
        pieces.append(low.emit("slice", x, axis=axis, start=last))
    return low.emit("concat", *pieces, axis=axis) if len(pieces) > 1 else part


def _every(low: Lowering, x: Value, part: Value, axis: int, call: Call) -> Ref:
    """Every step-th entry of a fixed axis is replaced."""
    if is_free(x.shape[axis]):
        raise CaptureError("writing to every n-th entry of a free axis has no rule. Cure: torch.where")
    places = torch.arange(int(x.shape[axis]))[call.get("start") : call.get("end") : call.integer("step")]
    return _put(low, x, axis, places, part)


def _put(low: Lowering, x: Value, axis: int, places: torch.Tensor, part: Value) -> Ref:
    """``x`` with the entries of ``part`` at fixed places of an axis; the last of equal places wins."""
    size = int(x.shape[axis])
    written = torch.zeros(size, dtype=torch.bool)
    source = torch.zeros(size, dtype=torch.int64)
    for k, place in enumerate((places % size).tolist()):
        written[place], source[place] = True, k
    behind = len(x.shape) - 1 - axis
    if len(part.shape) > behind and not (len(places) > 1 and int(part.shape[-1 - behind]) == 1):
        part = low.emit("take", part, source, axis=len(part.shape) - 1 - behind)
    return low.emit("where", written.reshape(-1, *(1,) * behind), part, x)


def _select_scatter(low: Lowering, call: Call) -> Ref:
    x, axis, index = call.value("self"), call.axis("dim"), call.integer("index")
    if is_free(x.shape[axis]):
        raise CaptureError("writing to one entry of a free axis has no rule. Cure: torch.where")
    part = low.emit("unsqueeze", cast(low, call.value("src"), call.dtype), dims=(axis,))
    chosen = torch.arange(int(x.shape[axis])) == index % int(x.shape[axis])
    return low.emit("where", chosen.reshape(-1, *(1,) * (len(x.shape) - 1 - axis)), part, x)


def _index_put(low: Lowering, call: Call) -> Ref:
    """x[mask] = number, or x[:, places] = part with fixed places."""
    x, indices, part = call.value("self"), call.get("indices"), cast(low, call.value("values"), call.dtype)
    given = [k for k, index in enumerate(indices) if index is not None]
    if call.get("accumulate") or len(given) != 1:
        raise CaptureError("writing at several indices, or adding there, has no rule. Cure: scatter_add")
    axis, index = given[0], indices[given[0]]
    if index.dtype == torch.bool:
        if any(not _is_one(size) for size in part.shape):
            raise CaptureError(
                "x[mask] = values has no rule for a tensor of values. Cure: torch.where(mask, new, x)"
            )
        behind = len(x.shape) - axis - len(index.shape)
        mask = low.emit("unsqueeze", index, dims=tuple(range(-behind, 0))) if behind else index
        return low.emit("where", mask, part, x)
    if isinstance(index, Ref) or len(index.shape) > 1 or is_free(x.shape[axis]):
        raise CaptureError("writing at computed indices has no rule. Cure: scatter, or torch.where")
    return _put(low, x, axis, index.reshape(-1), part)


def _is_one(size: Any) -> bool:
    return not is_free(size) and int(size) == 1


def _kept(size: Any) -> int:
    if is_free(size):
        raise CaptureError("this needs a size that is the same in every call. Cure: leave that axis fixed")
    return int(size)


def _repeated(low: Lowering, call: Call) -> Value:
    """repeat_interleave with fixed repeats: a look-up at constant indices."""
    repeats, dim = call.get("repeats"), call.get("dim")
    if isinstance(repeats, int) and dim is not None:
        return low.ref(SHAPE_RULES[aten.repeat_interleave](low, call))
    if isinstance(repeats, Ref) or is_free(repeats):
        raise CaptureError("repeats that are computed give a result whose size depends on the data")
    x = call.value("self")
    if dim is None:
        if len(x.shape) != 1:
            x = Ref(low.emit("reshape", x, shape=(-1,)).id, (_kept_size(x),), x.dtype)
        dim = 0
    axis = int(dim) % len(x.shape)
    if is_free(x.shape[axis]):
        raise CaptureError("repeating entries of an axis of free size has no rule. Cure: expand and reshape")
    call.ignore("output_size")
    places = torch.arange(int(x.shape[axis])).repeat_interleave(torch.as_tensor(repeats))
    return low.emit("take", x, places, axis=axis)


def _kept_size(x: Value) -> int:
    size = 1
    for s in x.shape:
        size *= _kept(s)
    return size


def _diagonal(low: Lowering, call: Call) -> Ref:
    """The two axes become one, of which every (n + 1)-th entry is taken."""
    x = call.value("self")
    rank = len(x.shape)
    axes = [call.integer(name) % rank for name in ("dim1", "dim2")]
    rows, columns = (_kept(x.shape[axis]) for axis in axes)
    offset = call.integer("offset")
    rest = [k for k in range(rank) if k not in axes]
    y = low.emit("permute", x, perm=(*rest, *axes))
    y = low.emit("reshape", y, shape=(*(0 for _ in rest), rows * columns))
    i = torch.arange(max(0, min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns)))
    places = (i - min(offset, 0)) * columns + i + max(offset, 0)
    return low.emit("take", y, places, axis=len(rest))


SCATTER_RULES: Mapping[object, Rule] = {
    aten.scatter: _scatter,
    aten.scatter_add: _scatter,
    aten.scatter_reduce: _scatter,
    aten.copy: _copied,
    aten.slice_scatter: _slice_scatter,
    aten.select_scatter: _select_scatter,
    aten.index_put: _index_put,
    aten._unsafe_index_put: _index_put,
    aten.diagonal: _diagonal,
    aten.repeat_interleave: _repeated,
}
