"""Operations that only move elements: their labels are found by running them on tensors of positions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from laconic.networks.watching import Call
from laconic.structure.coupling.functions import called
from laconic.structure.coupling.labels import Value, mixed, moved
from laconic.structure.coupling.trace import Rule, Trace

MOVES = (
    "view", "view_as", "reshape", "reshape_as", "flatten", "unflatten", "ravel", "squeeze", "unsqueeze",
    "permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "T", "mT", "expand",
    "expand_as", "broadcast_to", "repeat", "repeat_interleave", "tile", "flip",
    "getitem", "select", "narrow", "index_select", "chunk", "tensor_split", "split", "split_with_sizes",
    "unbind", "cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "pixel_shuffle",
    "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle", "diagonal",
)  # fmt: skip
_BY_AXIS = frozenset(called("unbind"))
_IN_STEP = _BY_AXIS | frozenset(called("chunk", "tensor_split"))


def moving(trace: Trace, call: Call) -> None:
    """Label the result by where its elements come from."""
    first = call.args[0] if call.args else next(iter(call.kwargs.values()))
    data = [t for t in tree_leaves(first) if isinstance(t, Tensor)]
    values = [trace.raw(t) for t in data]
    for value in values:
        if value.guard is not None:
            trace.units.pin(value.guard)
    sources: list[Value] = []
    numbers: dict[int, Tensor] = {}
    starts, total = [], 0
    for tensor, value in zip(data, values, strict=True):
        parts = value.slices or (value,)
        numbers[id(tensor)] = torch.arange(total, total + tensor.numel()).reshape(tensor.shape)
        for part in parts:
            starts.append(total)
            total += int(np.prod(part.shape))
        sources.extend(parts)
    results = tree_leaves(_again(call, first, numbers))
    tensors = tree_leaves(call.result)
    for number, tensor in zip(results, tensors, strict=True):
        place = number.numpy()
        owner = np.where(place < 0, -1, np.searchsorted(starts, place, side="right") - 1)
        local = place - np.asarray(starts)[np.maximum(owner, 0)]
        trace.set(tensor, moved(trace.units, sources, owner, np.where(owner < 0, 0, local)))
    for tensor in data:
        trace.picked(tensor, [trace.raw(t) for t in tensors])
    if call.function in _IN_STEP and len(values) == 1 and values[0].slices is None:
        position = 1 if call.function in _BY_AXIS else 2
        if values[0].at(int(call.argument(position, "dim", 0))) is not None:
            _in_step(trace, tensors)


def _again(call: Call, first: Any, numbers: dict[int, Tensor]) -> Any:
    """The same call on tensors of positions."""
    swapped = tree_map(lambda t: numbers[id(t)] if isinstance(t, Tensor) else t, first)
    if call.args:
        return call.function(swapped, *call.args[1:], **call.kwargs)
    (name, _), *rest = call.kwargs.items()
    return call.function(**{name: swapped}, **dict(rest))


def _in_step(trace: Trace, parts: list[Tensor]) -> None:
    """Equal parts must stay equally long: positions at one place in each part become one unit."""
    values = [trace.raw(t) for t in parts]
    for value in values[1:]:
        for field in value.fields:
            twin = next((f for f in values[0].fields if f.units.shape == field.units.shape), None)
            if twin is None:
                trace.units.pin(field.units)
            elif field.axes and not np.array_equal(twin.units, field.units):
                trace.units.join(twin.units, field.units)


def padding(trace: Trace, call: Call) -> None:
    """Padded axes are as long as before plus a constant; the padding belongs to no unit.

    Along other axes a constant is padded to every unit, and is removed with it. A constant other than 0 is
    not zero where the unit is.
    """
    tensor, pad = call.argument(0, "input"), list(call.argument(1, "pad"))
    mode = call.argument(2, "mode", "constant")
    value = trace.value(tensor)
    if mode != "constant":  # reflections copy across; only the untouched axes keep their units
        touched = {axis for axis, some in _padded(tensor.ndim, pad) if some}
        trace.set(call.result, untouched(trace, value, touched, tuple(call.result.shape)))
        return
    numbers = torch.arange(tensor.numel()).reshape(tensor.shape)
    place = torch.nn.functional.pad(numbers, pad, value=-1).numpy()
    done = moved(trace.units, [value], np.where(place < 0, -1, 0), np.maximum(place, 0))
    if call.argument(3, "value"):
        done = replace(done, fields=tuple(replace(f, zero=False) for f in done.fields))
    trace.set(call.result, replace(done, pixels=None))


def _padded(dims: int, pad: list[int]) -> list[tuple[int, bool]]:
    return [(dims - 1 - k, pad[2 * k] != 0 or pad[2 * k + 1] != 0) for k in range(len(pad) // 2)]


def writing(trace: Trace, call: Call) -> None:
    """``target[index] = source``: what is not written over stays what it was."""
    target, index, source = call.args
    values = [trace.value(target)]
    place = torch.arange(target.numel()).reshape(target.shape)
    if isinstance(source, Tensor):
        values.append(trace.value(source))
        place[index] = target.numel() + torch.arange(source.numel()).reshape(source.shape)
    else:
        place[index] = -1
    owner = np.where(place < 0, -1, place >= target.numel()).astype(np.int64)
    local = np.maximum(np.where(owner == 1, place - target.numel(), place), 0)
    done = moved(trace.units, values, owner, local)
    trace.set(target, replace(done, pixels=None))


def untouched(trace: Trace, value: Value, touched: set[int], shape: tuple[int, ...]) -> Value:
    """The value with the touched axes mixed."""
    for axis in touched:
        value = mixed(trace.units, value, axis)
    return Value(shape, value.fields)


def turning(trace: Trace, call: Call) -> None:
    """``roll`` and ``rot90`` move along axes without units; of fewer units they would move other ones."""
    value = trace.raw(call.args[0] if call.args else call.kwargs["input"])
    dims = call.argument(2, "dims", None)
    axes = [dims] if isinstance(dims, int) else list(dims or range(len(value.shape)))
    if any(value.at(int(axis)) is not None for axis in axes):
        trace.refuse(call, "moves units to where others were: what it reads is left whole")
    else:
        moving(trace, call)


SHAPE_RULES: dict[Any, Rule] = {
    **dict.fromkeys(called("roll", "rot90"), turning),
    **dict.fromkeys(called(*MOVES), moving),
    **dict.fromkeys(called("pad"), padding),
    **dict.fromkeys(called("setitem"), writing),
}
