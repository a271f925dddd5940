"""Lowering rules for indexing by tensors of integers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from laconic.errors import CaptureError
from laconic.export.lowering import Call, Lowering, Ref, Rule, Size, Value, is_free
from laconic.export.rules_math import binary, cast

aten = torch.ops.aten


def _index(low: Lowering, call: Call) -> Ref:
    """x[:, ids] or x[rows, columns]: tensors of integers for axes that stand side by side."""
    x, indices = call.value("self"), call.get("indices")
    given = [k for k, index in enumerate(indices) if index is not None]
    whole = all(indices[k].dtype in (torch.int64, torch.int32) for k in given)
    if not given or not whole or given != list(range(given[0], given[-1] + 1)):
        raise CaptureError(
            "indexing is understood for tensors of integers, side by side. Cure: torch.where for masks"
        )
    first, last = given[0], given[-1]
    if first == last:
        return low.emit("take", x, indices[first], axis=first)
    merged = math.prod(x.shape[first : last + 1])
    flat = low.reshape(x, (*x.shape[:first], merged, *x.shape[last + 1 :]), x.shape)
    place: Value = _from_the_front(low, indices[first], x.shape[first])
    for axis in given[1:]:  # rows * columns of a row + column
        step = _from_the_front(low, indices[axis], x.shape[axis])
        place = binary(low, "add", binary(low, "mul", place, x.shape[axis], torch.int64), step, torch.int64)
    return low.emit("take", flat, place, axis=first)


def _from_the_front(low: Lowering, index: Value, size: Size) -> Value:
    """Indices that may count from the end, counted from the front."""
    index = cast(low, index, torch.int64)
    if isinstance(index, torch.Tensor) and not is_free(size):
        return index % int(size)
    return binary(low, "remainder", index, size, torch.int64)


INDEX_RULES: Mapping[object, Rule] = {aten.index: _index}
