"""Lowering rules for order: the largest entries, sorting, medians, search in sorted numbers."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from laconic.errors import CaptureError
from laconic.export.lowering import Call, Lowering, Ref, Rule, Value, is_free
from laconic.export.rules_math import cast

aten = torch.ops.aten


def _length(x: Value, axis: int, what: str) -> int:
    """The size of an axis that must be fixed."""
    if is_free(x.shape[axis]):
        raise CaptureError(f"{what} along an axis of free size has no rule. Cure: choose a fixed axis")
    return int(x.shape[axis])


def _topk(low: Lowering, call: Call) -> list[Ref]:
    x, axis = call.value("self"), call.axis("dim")
    call.ignore("sorted")  # an unsorted call may return any order, so also the sorted one
    smallest = not call.get("largest")
    return list(low.emit_all("topk", x, k=call.integer("k"), axis=axis, smallest=smallest))


def _sorted(low: Lowering, call: Call) -> list[Ref]:
    """All entries by topk; equal entries keep their order."""
    x, axis = call.value("self"), call.axis("dim")
    call.ignore("stable")
    smallest = not call.get("descending")
    return list(low.emit_all("topk", x, k=_length(x, axis, "sorting"), axis=axis, smallest=smallest))


def _argsort(low: Lowering, call: Call) -> Ref:
    return _sorted(low, call)[1]


def _nth(low: Lowering, x: Value, axis: int, n: int, keep: bool) -> list[Ref]:
    """The entry of rank ``n`` (0: the smallest) and its index."""
    found = low.emit_all("topk", x, k=n + 1, axis=axis, smallest=True)
    if keep:
        return [low.emit("slice", y, axis=axis, start=n) for y in found]
    return [low.emit("select", y, axis=axis, index=n) for y in found]


def _median(low: Lowering, call: Call) -> list[Ref] | Ref:
    """The lower of the two entries in the middle, with its index."""
    x = call.value("self")
    if "dim" in call:
        axis = call.axis("dim")
        middle = (_length(x, axis, "a median") - 1) // 2
        return _nth(low, x, axis, middle, bool(call.get("keepdim")))
    size = 1
    for axis in range(len(x.shape)):
        size *= _length(x, axis, "a median")
    return _nth(low, low.emit("reshape", x, shape=(-1,)), 0, (size - 1) // 2, False)[0]


def _kth(low: Lowering, call: Call) -> list[Ref]:
    n = call.integer("k") - 1
    return _nth(low, call.value("self"), call.axis("dim"), n, bool(call.get("keepdim")))


def _bucket(low: Lowering, call: Call) -> Value:
    """For each number, how many of the sorted boundaries are below it (with ``right``: not above it)."""
    sorted_ones = call.get("boundaries", call.get("sorted_sequence"))
    right = bool(call.get("right")) or call.get("side") == "right"
    call.ignore("out_int32")
    if len(sorted_ones.shape) != 1:
        raise CaptureError("searchsorted is supported for a vector of sorted numbers only")
    x = low.emit("unsqueeze", call.value("self"), dims=(len(call.shape),))
    below = low.emit("le" if right else "lt", *_both_float(low, sorted_ones, x))
    return low.emit("sum", cast(low, Ref(below.id, (), torch.bool), call.dtype), dims=(-1,))


def _both_float(low: Lowering, *values: Value) -> list[Value]:
    return [cast(low, value, torch.float32) for value in values]


ORDER_RULES: Mapping[object, Rule] = {
    aten.topk: _topk,
    aten.sort: _sorted,
    aten.argsort: _argsort,
    aten.median: _median,
    aten.kthvalue: _kth,
    aten.bucketize: _bucket,
    aten.searchsorted: _bucket,
}
