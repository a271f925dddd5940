"""Lowering rules for indexing by tensors of integers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from laconic.errors import CaptureError
from laconic.export.lowering import Call, Lowering, Ref, Rule, Size, Value, is_free
from laconic.export.rules_math import binary, cast

aten = torch.ops.aten


def _index(low: Lowering, call: Call) -> Ref:
    """x[:, i, j]: fixed masks, and tensors of integers for adjacent axes."""
    x, indices = call.value("self"), _without_masks(call.get("indices"))
    given = [k for k, index in enumerate(indices) if index is not None]
    if any(index is not None and index.dtype not in (torch.int64, torch.int32) for index in indices):
        raise CaptureError(
            "x[mask] with a computed mask has a size that depends on the data. Cure: torch.where(mask, x, 0)"
        )
    if not given or given != list(range(given[0], given[-1] + 1)):
        raise CaptureError("indexing several axes is supported for adjacent axes only. Cure: gather")
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


def _without_masks(indices: Sequence[Any]) -> list[Any]:
    """Fixed masks converted to indices."""
    found: list[Any] = []
    for index in indices:
        if isinstance(index, torch.Tensor) and index.dtype == torch.bool:
            found.extend(index.nonzero(as_tuple=True))
        else:
            found.append(index)
    return found


def _from_the_front(low: Lowering, index: Value, size: Size) -> Value:
    """Indices with negative ones converted to positive ones."""
    index = cast(low, index, torch.int64)
    if isinstance(index, torch.Tensor) and not is_free(size):
        return index % int(size)
    return binary(low, "remainder", index, size, torch.int64)


INDEX_RULES: Mapping[object, Rule] = {aten.index: _index, aten._unsafe_index: _index}
