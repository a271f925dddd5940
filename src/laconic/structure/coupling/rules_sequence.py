"""Layers over sequences: recurrent layers and multi-head attention, each one call of torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from laconic.networks.watching import Call
from laconic.structure.coupling.labels import Field, Value, mixed
from laconic.structure.coupling.rules_layers import as_field, join_vector, labels_of
from laconic.structure.coupling.trace import Rule, Trace
from laconic.structure.coupling.units import Labels


def recurrent(gates: int) -> Rule:
    """A rule for a stack of recurrent layers with so many gates per unit."""

    def rule(trace: Trace, call: Call) -> None:
        if isinstance(call.args[1], Tensor) and isinstance(call.args[3], (list, tuple)):
            return trace.refuse(call, "has no rule for packed sequences: what it reads is left whole")
        x, hx, weights, has_bias, layers, _, _, both_ways, batch_first = call.args
        hx = hx if isinstance(hx, (list, tuple)) else (hx,)
        value = trace.value(x)
        time = 1 if batch_first and len(value.shape) == 3 else 0
        value = mixed(trace.units, value, time)
        labels, rows, made = labels_of(trace, value, -1), _per_cell(weights, layers, both_ways), []
        for layer in range(layers):
            cells = [
                _cell(trace, labels, rows[layer * (1 + both_ways) + d], gates, has_bias)
                for d in range(1 + both_ways)
            ]
            made.extend(cells)
            labels = np.concatenate([shown for _, shown in cells])
        _start(trace, hx, made)
        for side in (0, 1):
            trace.tied.append(tuple(cell[side] for cell in made))
        _set_results(trace, call, value, labels, made)
        return None

    return rule


def _per_cell(weights: Sequence[Tensor], layers: int, both_ways: bool) -> list[Sequence[Tensor]]:
    cells = layers * (1 + both_ways)
    each = len(weights) // cells
    return [weights[k * each : (k + 1) * each] for k in range(cells)]


def _cell(
    trace: Trace, fed: Labels, weights: Sequence[Tensor], gates: int, has_bias: bool
) -> tuple[Labels, Labels]:
    """Join one layer's weights; gives the labels of its cells and of its output, maybe a projection."""
    w_ih, w_hh = (trace.value(w) for w in weights[:2])
    trace.units.join(fed, labels_of(trace, w_ih, 1))
    rows = labels_of(trace, w_ih, 0).reshape(gates, -1)
    trace.units.join(rows, np.broadcast_to(rows[:1], rows.shape))
    trace.units.join(labels_of(trace, w_hh, 0), rows.ravel())
    join_vector(trace, rows.ravel(), *(weights[2:4] if has_bias else ()))
    shown = rows[0]
    projection = weights[2 + 2 * bool(has_bias) :]
    if projection:
        w_hr = trace.value(projection[0])
        trace.units.join(labels_of(trace, w_hr, 1), rows[0])
        shown = labels_of(trace, w_hr, 0)
    trace.units.join(labels_of(trace, w_hh, 1), shown)
    return rows[0], shown


def _start(trace: Trace, hx: Sequence[Tensor], made: list[tuple[Labels, Labels]]) -> None:
    """Initial states that are not all zero have the units of the layers that they start."""
    for number, tensor in enumerate(hx):
        raw = trace.raw(tensor)
        if trace.is_constant(tensor) and not tensor.any():
            continue
        parts = raw.slices or ()
        for k, cell in enumerate(made):
            mine = cell[0] if number == 1 else cell[1]
            source = parts[k] if parts else trace.value(tensor)
            trace.units.join(mine, labels_of(trace, source, -1))


def _set_results(
    trace: Trace, call: Call, value: Value, labels: Labels, made: list[tuple[Labels, Labels]]
) -> None:
    out, *states = call.result
    dims = out.ndim
    trace.set(out, Value(tuple(out.shape), (*value.without(-1), *as_field(-1, dims, labels, True))))
    for number, state in enumerate(states):
        shape = tuple(state.shape)
        parts = tuple(
            Value(shape[1:], as_field(-1, len(shape) - 1, cell[0] if number == 1 else cell[1], True))
            for cell in made
        )
        trace.set(state, Value(shape, slices=parts))


def recurrent_cell(gates: int) -> Rule:
    """A rule for one step of one recurrent layer."""

    def rule(trace: Trace, call: Call) -> None:
        x, hx, *weights = call.args
        units, _ = _cell(trace, labels_of(trace, trace.value(x), -1), weights, gates, len(weights) > 2)
        for tensor in hx if isinstance(hx, (list, tuple)) else (hx,):
            if not (trace.is_constant(tensor) and not tensor.any()):
                trace.units.join(units, labels_of(trace, trace.value(tensor), -1))
        results = call.result if isinstance(call.result, (list, tuple)) else (call.result,)
        for result in results:
            shape = tuple(result.shape)
            trace.set(result, Value(shape, as_field(-1, len(shape), units, True)))

    return rule


def multi_head_attention(trace: Trace, call: Call) -> None:
    """Heads are units; the width of inputs and outputs is independent of them.

    The attention weights beside the result are means over heads: a network that reads them keeps all
    heads.
    """
    given = _by_name(call)
    query, key, value = (given[name] for name in ("query", "key", "value"))
    heads = int(given["num_heads"])
    inner = int(given["out_proj_weight"].shape[1])
    units = trace.units.fresh(heads)
    rows = np.repeat(units, inner // heads)
    fed = [labels_of(trace, trace.value(t), -1) for t in (query, key, value)]
    if given.get("use_separate_proj_weight"):
        for labels, name in zip(fed, ("q", "k", "v"), strict=True):
            _project(trace, given[f"{name}_proj_weight"], rows, labels)
    else:
        for labels in fed:
            _project(trace, given["in_proj_weight"], np.tile(rows, 3), labels)
    join_vector(trace, np.tile(rows, 3), given["in_proj_bias"])
    for name in ("bias_k", "bias_v"):
        join_vector(trace, rows, given[name])
    out_weight = trace.value(given["out_proj_weight"])
    trace.units.join(labels_of(trace, out_weight, 1), rows)
    made = labels_of(trace, out_weight, 0)
    join_vector(trace, made, given["out_proj_bias"])
    _masks(trace, given, units)
    for tensor in (key, value):
        place = trace.value(tensor)
        for axis in range(len(place.shape) - 1):
            mixed(trace.units, place, axis)
    source = trace.value(query)
    out, weights = call.result
    rest = tuple(Field(f.units, False, f.weak) for f in source.without(-1))
    trace.set(out, Value(tuple(out.shape), (*rest, *as_field(-1, out.ndim, made, True))))
    if weights is not None:
        trace.set(weights, Value(tuple(weights.shape), guard=units))


def _project(trace: Trace, weight: Tensor, rows: Labels, fed: Labels) -> None:
    value = trace.value(weight)
    trace.units.join(labels_of(trace, value, 0), rows)
    trace.units.join(labels_of(trace, value, 1), fed)


def _masks(trace: Trace, given: dict[str, Any], units: Labels) -> None:
    mask = given.get("attn_mask")
    if mask is not None and mask.ndim == 3:  # one mask a head: its first axis is heads times batch
        trace.units.pin(units)


def _by_name(call: Call) -> dict[str, Any]:
    names = (
        "query", "key", "value", "embed_dim_to_check", "num_heads", "in_proj_weight", "in_proj_bias",
        "bias_k", "bias_v", "add_zero_attn", "dropout_p", "out_proj_weight", "out_proj_bias",
    )  # fmt: skip
    return {**dict(zip(names, call.args, strict=False)), **call.kwargs}


def _kernels(*names: str) -> tuple[Callable[..., Any], ...]:
    return tuple(
        f for name in names for room in (torch, torch._VF) if (f := getattr(room, name, None)) is not None
    )


SEQUENCE_RULES: dict[Any, Rule] = {
    **dict.fromkeys(_kernels("lstm"), recurrent(4)),
    **dict.fromkeys(_kernels("gru"), recurrent(3)),
    **dict.fromkeys(_kernels("rnn_tanh", "rnn_relu"), recurrent(1)),
    **dict.fromkeys(_kernels("lstm_cell"), recurrent_cell(4)),
    **dict.fromkeys(_kernels("gru_cell"), recurrent_cell(3)),
    **dict.fromkeys(_kernels("rnn_tanh_cell", "rnn_relu_cell"), recurrent_cell(1)),
    F.multi_head_attention_forward: multi_head_attention,
}
