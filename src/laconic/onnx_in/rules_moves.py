"""Rules for ONNX' operators that move entries, read sizes, or make constants."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from laconic.errors import CaptureError
from laconic.onnx_in.conversion import Conversion, Known, Rule, Sizes, Value
from laconic.onnx_in.messages import Call, Stored
from laconic.onnx_in.rules_layers import text, whole, wholes
from laconic.pack.graph.ops import SLICE_END

_MOST = 2**22  # entries of a constant that is made of sizes


def _constant(made: Conversion, call: Call) -> Sequence[Known]:
    for name, value in call.attrs.items():
        if isinstance(value, Stored):
            return (made.constant_of(value),)
        if name in ("value_float", "value_floats"):
            return (np.asarray(value, np.float32),)
        if name in ("value_int", "value_ints"):
            return (np.asarray(value, np.int64),)
    raise CaptureError("a constant without numbers has no rule")


def _shape(made: Conversion, call: Call) -> Sequence[Known]:
    found = made.given(call, 0)
    if isinstance(found, np.ndarray):
        return (np.array(found.shape, np.int64),)
    if isinstance(found, Sizes):
        return (np.array([] if found.scalar else [len(found.items)], np.int64),)
    x = made.value(call, 0)
    axes = range(x.rank)[whole(call, "start", 0) : whole(call, "end", x.rank)]
    items: list[int | Value] = []
    for axis in axes:
        size = x.size(axis)
        items.append(made.emit("size", x, axis=axis) if size is None else size)
    return (Sizes(tuple(items)),)


def _reshape(made: Conversion, call: Call) -> Sequence[Known]:
    shape = made.sizes(call, 1)
    found = made.given(call, 0)
    if isinstance(found, np.ndarray) and shape.fixed is not None and 0 not in shape.fixed:
        return (found.reshape(shape.fixed),)
    if isinstance(found, Sizes) and shape.fixed in ((-1,), ()):
        return (Sizes(found.items, shape.fixed == ()),)
    if whole(call, "allowzero", 0) and 0 in shape.items:
        raise CaptureError("a reshape to no entries has no rule")
    return (made.shaped("reshape", made.value(call, 0), shape.items),)


def _transpose(made: Conversion, call: Call) -> Sequence[Known]:
    found = made.given(call, 0)
    perm = wholes(call, "perm")
    if isinstance(found, np.ndarray):
        made.folding(found.nbytes)
        return (np.ascontiguousarray(found.transpose(perm or None)),)
    x = made.value(call, 0)
    return (made.emit("permute", x, perm=perm or tuple(reversed(range(x.rank)))),)


def _flatten(made: Conversion, call: Call) -> Sequence[Known]:
    x, axis = made.value(call, 0), whole(call, "axis", 1)
    if axis == 1:
        return (made.emit("flatten", x),)
    rest = [x.size(k) for k in range(x.rank)][axis:]
    if None not in rest:
        return (made.emit("reshape", x, shape=(-1, int(np.prod(rest, dtype=np.int64)))),)  # type: ignore[arg-type]
    first = [x.size(k) for k in range(x.rank)][:axis]
    if None in first:
        raise CaptureError(f"a flattening from axis {axis} has no rule where sizes on both sides are free")
    return (made.emit("reshape", x, shape=(int(np.prod(first, dtype=np.int64)), -1)),)  # type: ignore[arg-type]


def _unsqueeze(made: Conversion, call: Call) -> Sequence[Known]:
    found, dims = made.given(call, 0), made.ints(call, 1, "axes") or ()
    if isinstance(found, Sizes) and found.scalar and dims in ((0,), (-1,)):
        return (Sizes(found.items),)
    if isinstance(found, np.ndarray):
        return (np.expand_dims(found, dims),)
    x = made.value(call, 0)
    rank = x.rank + len(dims)
    return (made.emit("unsqueeze", x, dims=tuple(sorted(d % rank for d in dims))),)


def _squeeze(made: Conversion, call: Call) -> Sequence[Known]:
    found, dims = made.given(call, 0), made.ints(call, 1, "axes")
    if isinstance(found, Sizes) and len(found.items) == 1:
        return (Sizes(found.items, True),)
    if isinstance(found, np.ndarray):
        return (found.squeeze(dims),)
    x = made.value(call, 0)
    if dims is None:
        dims = tuple(k for k in range(x.rank) if x.size(k) == 1)
    return (made.emit("squeeze", x, dims=dims),)


def _concat(made: Conversion, call: Call) -> Sequence[Known]:
    given = [made.given(call, k) for k in range(len(call.inputs))]
    axis = whole(call, "axis", 0)
    if any(isinstance(part, Sizes) for part in given):
        parts = [made.sizes(call, k) for k in range(len(given))]
        return (Sizes(tuple(item for part in parts for item in part.items)),)
    arrays = [part for part in given if isinstance(part, np.ndarray)]
    if len(arrays) == len(given):
        made.folding(sum(part.nbytes for part in arrays))
        return (np.concatenate(arrays, axis),)
    return (made.emit("concat", *(made.value(call, k) for k in range(len(given))), axis=axis),)


def _gather(made: Conversion, call: Call) -> Sequence[Known]:
    table, axis = made.given(call, 0), whole(call, "axis", 0)
    index = made.given(call, 1)
    if isinstance(index, np.ndarray) and isinstance(table, Sizes) and index.ndim <= 1:
        picked = [table.items[int(k)] for k in index.reshape(-1)]
        return (Sizes(tuple(picked), index.ndim == 0),)
    if isinstance(index, np.ndarray) and isinstance(table, np.ndarray):
        made.folding(table.nbytes // max(1, table.shape[axis]) * index.size)
        return (np.take(table, index.astype(np.int64), axis),)
    data = made.value(call, 0)
    if isinstance(index, np.ndarray) and index.ndim == 0:
        return (made.emit("select", data, axis=axis, index=int(index)),)
    places = made.value(call, 1)
    if data.ref < 0 and data.rank == 2 and axis == 0:
        return (made.emit("embedding", places, data),)
    return (made.emit("take", data, places, axis=axis),)


def _gather_elements(made: Conversion, call: Call) -> Sequence[Known]:
    data, places = made.value(call, 0), made.value(call, 1)
    return (made.emit("gather", data, places, axis=whole(call, "axis", 0)),)


def _slice(made: Conversion, call: Call) -> Sequence[Known]:
    found = made.given(call, 0)
    if made.opset < 10:
        starts, ends = Sizes(wholes(call, "starts")), Sizes(wholes(call, "ends"))
    else:
        starts, ends = made.sizes(call, 1), made.sizes(call, 2)
    axes = made.ints(call, 3, "axes") or tuple(range(len(starts.items)))
    steps = made.ints(call, 4, "steps") or (1,) * len(axes)
    if isinstance(found, Sizes) and starts.fixed and ends.fixed:
        return (Sizes(found.items[starts.fixed[0] : ends.fixed[0] : steps[0]]),)
    x = made.value(call, 0)
    for axis, start, end, step in zip(axes, starts.items, ends.items, steps, strict=True):
        if step < 1:
            raise CaptureError("a slice backwards has no rule")
        x = _one_slice(made, x, axis, start, end, step)
    return (x,)


def _one_slice(
    made: Conversion, x: Value, axis: int, start: int | Value, end: int | Value, step: int
) -> Value:
    if isinstance(start, Value) or isinstance(end, Value):
        last = end if isinstance(end, Value) else made.number(end)
        return made.emit("slice", x, made.number(start), last, axis=axis, step=step)
    # many exporters write the largest int32 for the end of the axis
    return made.emit(
        "slice", x, axis=axis, start=start, end=SLICE_END if end >= 2**31 - 1 else end, step=step
    )


def _split(made: Conversion, call: Call) -> Sequence[Known]:
    x, axis = made.value(call, 0), whole(call, "axis", 0)
    parts = made.ints(call, 1, "split")
    if parts is None:
        size, count = x.size(axis), len(call.outputs)
        if size is None:
            raise CaptureError("a split of a free axis has no rule")
        each = -(-size // count)
        parts = tuple(min(each, size - k * each) for k in range(count))
    found, at = [], 0
    for size in parts:
        found.append(made.emit("slice", x, axis=axis, start=at, end=at + size))
        at += size
    return tuple(found)


def _expand(made: Conversion, call: Call) -> Sequence[Known]:
    x, shape = made.value(call, 0), made.sizes(call, 1)
    rank = max(x.rank, len(shape.items))
    items: list[int | Value] = [*(1,) * (rank - len(shape.items)), *shape.items]
    if x.rank < rank:
        x = made.emit("unsqueeze", x, dims=tuple(range(rank - x.rank)))
    return (made.shaped("expand", x, items),)


def _pad(made: Conversion, call: Call) -> Sequence[Known]:
    x, pads = made.value(call, 0), made.ints(call, 1, "pads") or ()
    if len(call.inputs) > 3 and call.inputs[3]:
        raise CaptureError("the padding of chosen axes has no rule")
    fill = made.constant(call, 2)
    number = call.attrs.get("value", 0.0) if fill is None else float(fill.reshape(()))
    pairs = [pads[k + end * x.rank] for k in reversed(range(x.rank)) for end in (0, 1)]
    while len(pairs) > 2 and pairs[-2:] == [0, 0]:
        pairs = pairs[:-2]
    mode = text(call, "mode", "constant")
    return (made.emit("pad", x, pads=tuple(pairs), mode=mode, value=float(np.float32(number))),)  # type: ignore[arg-type]


def _filled(made: Conversion, call: Call) -> Sequence[Known]:
    shape = made.sizes(call, 0)
    stored = call.attrs.get("value")
    value = made.constant_of(stored) if isinstance(stored, Stored) else np.zeros(1, np.float32)
    if shape.fixed is not None:
        if np.prod(shape.fixed, dtype=np.float64) > _MOST:
            raise CaptureError(f"a constant of the shape {shape.fixed} has no rule")
        made.folding(value.itemsize * math.prod(shape.fixed))
        return (np.full(shape.fixed, value.reshape(())),)
    seed = made.raw(value.reshape((1,) * len(shape.items)))
    return (made.shaped("expand", seed, shape.items),)


def _range(made: Conversion, call: Call) -> Sequence[Known]:
    start, end, step = (made.sizes(call, k) for k in range(3))
    if start.fixed is not None and end.fixed is not None and step.fixed is not None:
        numbers = (start.fixed[0], end.fixed[0], step.fixed[0])
        if numbers[2] == 0 or len(range(*numbers)) > _MOST:
            raise CaptureError(f"the range {numbers} has no rule")
        made.folding(8 * len(range(*numbers)))
        return (np.arange(*numbers, dtype=np.int64),)
    if start.items != (0,) or step.items != (1,):
        raise CaptureError("a range that does not begin at 0, or of other steps than 1, has no rule")
    return (made.emit("arange", made.number(end.items[0])),)


def _depth_to_space(made: Conversion, call: Call) -> Sequence[Known]:
    if text(call, "mode", "DCR") != "CRD":
        raise CaptureError("DepthToSpace in mode DCR has no rule")
    return (made.emit("pixel_shuffle", made.value(call, 0), factor=whole(call, "blocksize", 1)),)


def _cumsum(made: Conversion, call: Call) -> Sequence[Known]:
    axis = made.constant(call, 1)
    if axis is None or whole(call, "exclusive", 0) or whole(call, "reverse", 0):
        raise CaptureError("an exclusive or reversed sum has no rule")
    return (made.emit("cumsum", made.value(call, 0), axis=int(axis.reshape(()))),)


RULES: dict[str, Rule] = {
    "Constant": _constant,
    "Shape": _shape,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Flatten": _flatten,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Concat": _concat,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Slice": _slice,
    "Split": _split,
    "Expand": _expand,
    "Pad": _pad,
    "ConstantOfShape": _filled,
    "Range": _range,
    "DepthToSpace": _depth_to_space,
    "CumSum": _cumsum,
}
