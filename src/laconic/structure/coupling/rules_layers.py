"""Layers that hold weights: which of their axes are coupled with which axis of their input and output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils._pytree import tree_leaves

from laconic.networks.watching import Call
from laconic.structure.coupling.functions import called
from laconic.structure.coupling.labels import Field, Value, along, mixed, pinned, take_axis
from laconic.structure.coupling.trace import Rule, Trace
from laconic.structure.coupling.units import Labels, fixed

_POOLS = (
    *(f"{kind}_pool{n}d" for kind in ("max", "avg", "lp") for n in (1, 2, 3)),
    *(f"adaptive_{kind}_pool{n}d" for kind in ("max", "avg") for n in (1, 2, 3)),
    *(f"{name}_with_indices" for n in (1, 2, 3) for name in (f"max_pool{n}d", f"adaptive_max_pool{n}d")),
    "interpolate", "upsample", "upsample_nearest", "upsample_bilinear",
)  # fmt: skip


def labels_of(trace: Trace, value: Value, axis: int) -> Labels:
    """The units along one axis; 0 where they must stay."""
    field = take_axis(trace.units, value, axis)
    return fixed(value.shape[axis]) if field is None else field.units.ravel()


def as_field(axis: int, dims: int, labels: Labels, zero: bool) -> tuple[Field, ...]:
    """A field for labels, or none where all of them must stay or the axis is one long."""
    return (along(axis % dims, dims, labels, zero=zero),) if len(labels) > 1 and labels.any() else ()


def join_vector(trace: Trace, labels: Labels, *vectors: Tensor | None) -> None:
    """A bias, a scale, a running mean: one number per unit, on its last axis."""
    for vector in vectors:
        if vector is not None:
            trace.units.join(labels, labels_of(trace, trace.value(vector), -1))


def linear(trace: Trace, call: Call) -> None:
    """``x @ W.T + b``."""
    x, weight = trace.value(call.argument(0, "input")), trace.value(call.argument(1, "weight"))
    bias = call.argument(2, "bias")
    out = labels_of(trace, weight, 0)
    trace.units.join(feature_labels(trace, x), labels_of(trace, weight, 1))
    join_vector(trace, out, bias)
    shape = tuple(call.result.shape)
    rest = tuple(replace(f, zero=False) if bias is not None else f for f in x.without(-1))
    trace.set(call.result, Value(shape, (*rest, *as_field(-1, len(shape), out, True))))


def feature_labels(trace: Trace, x: Value) -> Labels:
    """The last axis' units; an input that was flattened has one unit for each of its numbers."""
    field = x.at(-1)
    if x.pixels is None or len(x.shape) != 2 or (field is not None and not field.weak):
        return labels_of(trace, x, -1)
    if field is not None and len(trace.inputs[x.pixels.source].shape) == 2:
        return labels_of(trace, x, -1)
    if field is not None:
        trace.units.pin(field.units)
    units: Labels = trace.pixel_units(x.pixels.source)[x.pixels.where[0]]
    return units


def convolution(trace: Trace, call: Call) -> None:
    """Any convolution, grouped or depthwise: positions are mixed, channels are joined with the weight's."""
    x, weight = trace.value(call.argument(0, "input")), trace.value(call.argument(1, "weight"))
    groups = int(call.argument(6, "groups", 1))
    taken, made = labels_of(trace, weight, 1), labels_of(trace, weight, 0)
    _convolve(trace, call, x, len(weight.shape) - 2, _meet(trace, x, weight, groups, taken, made), groups)


def _meet(trace: Trace, x: Value, weight: Value, groups: int, taken: Labels, made: Labels) -> Labels:
    """Join a convolution's channels with its weight's; gives the labels of its output channels."""
    channels = labels_of(trace, x, -(len(weight.shape) - 1))
    if groups == 1:
        trace.units.join(channels, taken)
        return made
    if len(taken) == 1:  # depthwise: a filter is removed with its channel
        trace.units.join(np.repeat(channels, len(made) // groups), made)
        return made
    # One place in every group: all groups keep equally many, and the weight's own axis is shared by them.
    inside = channels.reshape(groups, -1)
    trace.units.join(inside, np.broadcast_to(taken, inside.shape))
    outside = made.reshape(groups, -1)
    trace.units.join(outside, np.broadcast_to(outside[:1], outside.shape))
    return made


def transposed_convolution(trace: Trace, call: Call) -> None:
    """The same with the weight's axes exchanged: (in, out / groups, ...)."""
    x, weight = trace.value(call.argument(0, "input")), trace.value(call.argument(1, "weight"))
    groups = int(call.argument(6, "groups", 1))
    taken, made = labels_of(trace, weight, 0), labels_of(trace, weight, 1)
    channels = labels_of(trace, x, -(len(weight.shape) - 1))
    trace.units.join(channels, taken)
    if groups == 1:
        out = made
    elif len(taken) == groups:  # one channel in: what is computed from it is removed with it
        trace.units.pin(made if len(made) > 1 else fixed(1))
        out = np.repeat(channels, len(made))
    else:
        inside = channels.reshape(groups, -1)
        trace.units.join(inside, np.broadcast_to(inside[:1], inside.shape))
        out = np.tile(made, groups)
    _convolve(trace, call, x, len(weight.shape) - 2, out, groups)


def _convolve(trace: Trace, call: Call, x: Value, places: int, out: Labels, groups: int) -> None:
    """Set the result: positions mixed, channels relabelled."""
    bias = call.argument(2, "bias")
    join_vector(trace, out, bias)
    weight = trace.value(call.argument(1, "weight"))
    for axis in range(-places, 0):
        x = mixed(trace.units, x, axis)
        mixed(trace.units, weight, axis)
    shape = tuple(call.result.shape)
    rest = tuple(replace(f, zero=f.zero and bias is None) for f in x.without(-places - 1))
    trace.set(call.result, Value(shape, (*rest, *as_field(-places - 1, len(shape), out, True))))


def batch_norm(trace: Trace, call: Call) -> None:
    """One mean, variance, scale and shift per channel."""
    names = ("input", "running_mean", "running_var", "weight", "bias")
    x, *vectors = (call.argument(k, name) for k, name in enumerate(names))
    _normalised(trace, call, trace.value(x), labels_of(trace, trace.value(x), 1), vectors, affine=vectors[2])


def instance_norm(trace: Trace, call: Call) -> None:
    """Batch norm of each example by itself; positions are mixed."""
    names = ("input", "running_mean", "running_var", "weight", "bias")
    x, *vectors = (call.argument(k, name) for k, name in enumerate(names))
    value = trace.value(x)
    for axis in range(2, len(value.shape)):
        value = mixed(trace.units, value, axis)
    _normalised(trace, call, value, labels_of(trace, value, 1), vectors, affine=vectors[2])


def group_norm(trace: Trace, call: Call) -> None:
    """Channels of a group share their moments: a group is removed as a whole, and a single group stays."""
    names = ("input", "num_groups", "weight", "bias")
    x, groups, weight, bias = (call.argument(k, name) for k, name in enumerate(names))
    value = trace.value(x)
    for axis in range(2, len(value.shape)):
        value = mixed(trace.units, value, axis)
    labels = labels_of(trace, value, 1)
    if int(groups) == 1:
        trace.units.pin(labels)
    inside = labels.reshape(int(groups), -1)
    trace.units.join(inside, np.broadcast_to(inside[:, :1], inside.shape))
    _normalised(trace, call, value, labels, [weight, bias], affine=weight)


def _normalised(
    trace: Trace, call: Call, x: Value, labels: Labels, vectors: Sequence[Any], *, affine: Any
) -> None:
    join_vector(trace, labels, *vectors)
    dims = len(x.shape)
    trace.set(call.result, Value(x.shape, (*x.without(1), *as_field(1, dims, labels, affine is not None))))


def layer_norm(trace: Trace, call: Call) -> None:
    """Moments over the last axis, which may shrink where removed numbers are zero: the count stays.

    See :class:`laconic.structure.narrow.NarrowLayerNorm`. Over several axes, all must stay.
    """
    x, shape = trace.value(call.argument(0, "input")), call.argument(1, "normalized_shape")
    weight, bias = call.argument(2, "weight"), call.argument(3, "bias")
    several = len(tuple(shape)) > 1
    field = x.at(-1)
    if several or (field is not None and not field.zero):
        for axis in range(-len(tuple(shape)), 0):
            x = mixed(trace.units, x, axis)
    if several:
        for vector in (weight, bias):
            if vector is not None:
                for axis in range(len(tuple(shape))):
                    mixed(trace.units, trace.value(vector), axis)
        return trace.set(call.result, Value(x.shape, x.fields))
    labels = labels_of(trace, x, -1)
    join_vector(trace, labels, weight, bias)
    zero = weight is not None
    trace.set(call.result, Value(x.shape, (*x.without(-1), *as_field(-1, len(x.shape), labels, zero))))
    return None


def embedding(trace: Trace, call: Call) -> None:
    """A row for each index: rows stay, columns are units."""
    index, table = trace.value(call.argument(0, "input")), trace.value(call.argument(1, "weight"))
    trace.units.pin(labels_of(trace, table, 0))
    shape = tuple(call.result.shape)
    rest = tuple(Field(f.units[..., None], False, f.weak) for f in index.fields)
    trace.set(call.result, Value(shape, (*rest, *as_field(-1, len(shape), labels_of(trace, table, 1), True))))


def pooling(trace: Trace, call: Call) -> None:
    """Positions are mixed, channels stay as they are."""
    value = trace.value(call.argument(0, "input"))
    digit = next((c for c in getattr(call.function, "__name__", "") if c in "123"), None)
    places = int(digit) if digit else max(len(value.shape) - 2, 1)
    for axis in range(-places, 0):
        value = mixed(trace.units, value, axis)
    for result in tree_leaves(call.result):
        if isinstance(result, Tensor):
            trace.set(result, Value(tuple(result.shape), value.fields))


def grid_sample(trace: Trace, call: Call) -> None:
    """Positions are selected and mixed as a grid says, channels stay as they are."""
    value, grid = trace.value(call.argument(0, "input")), trace.value(call.argument(1, "grid"))
    pinned(trace.units, grid)
    for axis in range(2, len(value.shape)):
        value = mixed(trace.units, value, axis)
    trace.set(call.result, Value(tuple(call.result.shape), value.fields))


def glu(trace: Trace, call: Call) -> None:
    """One half gates the other: their units are removed in pairs."""
    value = trace.value(call.argument(0, "input"))
    axis = int(call.argument(1, "dim", -1)) % len(value.shape)
    first, second = labels_of(trace, value, axis).reshape(2, -1)
    trace.units.join(first, second)
    shape = tuple(call.result.shape)
    field = value.at(axis)
    zero = field is not None and field.zero
    trace.set(call.result, Value(shape, (*value.without(axis), *as_field(axis, len(shape), first, zero))))


LAYER_RULES: dict[Any, Rule] = {
    **dict.fromkeys(called("linear"), linear),
    **dict.fromkeys(called("conv1d", "conv2d", "conv3d"), convolution),
    **dict.fromkeys(
        called("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), transposed_convolution
    ),
    **dict.fromkeys(called("batch_norm"), batch_norm),
    **dict.fromkeys(called("instance_norm"), instance_norm),
    **dict.fromkeys(called("group_norm"), group_norm),
    **dict.fromkeys(called("layer_norm", "rms_norm"), layer_norm),
    **dict.fromkeys(called("embedding"), embedding),
    **dict.fromkeys(called(*_POOLS), pooling),
    **dict.fromkeys(called("grid_sample"), grid_sample),
    **dict.fromkeys(called("glu"), glu),
}
