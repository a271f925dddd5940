"""Lowering rules for values that depend on sizes: filled constants, position ranges, causal masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from laconic.errors import CaptureError
from laconic.export.lowering import Call, Lowering, Ref, Rule, Size, Value, is_free
from laconic.export.rules_math import binary, cast, is_count

aten = torch.ops.aten


def _filled(low: Lowering, call: Call) -> Ref:
    """zeros, ones, full and their _like forms over a free dimension."""
    value, ones = call.get("fill_value", call.get("value")), (1,) * len(call.shape)
    call.ignore("self")
    if value is None:
        value = 1 if "ones" in call.name else 0
    if isinstance(value, Ref) or is_free(value):
        number = cast(low, value if isinstance(value, Ref) else low.number(value), call.dtype)
        return low.expand(low.reshape(number, ones), call.shape, ones) if call.shape else low.ref(number)
    seed = torch.full(ones, float(value) if isinstance(value, torch.Tensor) else value, dtype=call.dtype)
    y = low.expand(seed, call.shape, seed.shape)
    return Ref(y.id, call.shape, call.dtype, fill=float(value))


def _arange(low: Lowering, call: Call) -> Ref:
    """Start + step * (0, 1, .., n - 1), n being the result's free size."""
    start, step = call.get("start", 0), call.get("step", 1)
    call.ignore("end")
    found: Value = low.emit("arange", low.number(call.shape[0]))
    found = cast(low, Ref(low.ref(found).id, call.shape, torch.int64), call.dtype)
    if is_free(step) or step != 1:
        found = Ref(binary(low, "mul", found, step, call.dtype).id, call.shape, call.dtype)
    if is_free(start) or start != 0:
        found = Ref(binary(low, "add", found, start, call.dtype).id, call.shape, call.dtype)
    plain = isinstance(step, int) and not is_free(start) and start == 0
    return Ref(low.ref(found).id, call.shape, call.dtype, arange_step=step if plain else None)


def _positions(low: Lowering, size: Size, rank: int, axis: int) -> Value:
    """0, 1, .., size - 1 along one axis of a value of rank ``rank``."""
    shape: list[Size] = [1] * rank
    shape[axis] = size
    if not is_free(size):
        return torch.arange(int(size)).reshape([int(s) for s in shape])
    numbers = low.emit("arange", low.number(size))
    return replace(low.emit("unsqueeze", numbers, dims=(0,) if axis else (1,)), shape=tuple(shape))


def _triangle(keep: str) -> Rule:
    """Tril and triu of the last two axes: entries on the other side of a diagonal become zero."""

    def rule(low: Lowering, call: Call) -> Ref:
        x, diagonal = call.value("self"), call.get("diagonal", 0)
        rows = _positions(low, x.shape[-2], 2, 0)
        rows = rows + diagonal if isinstance(rows, torch.Tensor) and not is_free(diagonal) else rows
        if isinstance(rows, Ref) and (is_free(diagonal) or diagonal):
            rows = binary(low, "add", rows, diagonal, torch.int64)
        columns = _positions(low, x.shape[-1], 2, 1)
        if isinstance(rows, torch.Tensor) and isinstance(columns, torch.Tensor):
            kept: Value = columns <= rows if keep == "tril" else columns >= rows
        else:
            kept = low.emit("le" if keep == "tril" else "ge", columns, rows)
        if call.dtype == torch.bool:  # ONNX Runtime has no kernel of Where for it
            return low.emit("logical_and", x, kept)
        return low.emit("where", kept, x, torch.zeros((), dtype=call.dtype))

    return rule


def _whole(op: str) -> Rule:
    """floor_divide and remainder of integers by a positive number."""

    def rule(low: Lowering, call: Call) -> Ref:
        if call.dtype != torch.int64 or not is_count(call.get("other")):
            raise CaptureError(f"{op} is supported for int64 values and a positive whole divisor only")
        return binary(low, op, call.get("self"), call.get("other"), torch.int64)

    return rule


# fmt: off
_CONSTANTS = (
    "zeros", "ones", "full", "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full",
)
# fmt: on

SIZE_RULES: Mapping[object, Rule] = {
    **{getattr(aten, name): _filled for name in _CONSTANTS},
    aten.arange: _arange,
    aten.floor_divide: _whole("floor_divide"),
    aten.remainder: _whole("remainder"),
    aten.tril: _triangle("tril"),
    aten.triu: _triangle("triu"),
}
