"""Recurrent layers and attention in parts: what each of their weights multiplies.

Each function takes the call and gives pairs (weight, inputs): one input, or one for each equal block of the
weight's rows.
"""

from __future__ import annotations

import inspect

import torch
import torch.nn.functional as F
from torch import Tensor

from laconic.errors import InputError
from laconic.networks.watching import Call

Inputs = list[tuple[Tensor, tuple[Tensor, ...]]]


def recurrent_inputs(call: Call) -> Inputs:
    """Input, previous state and, before a projection, hidden state of each layer and direction."""
    if isinstance(call.args[1], Tensor) and isinstance(call.args[3], (list, tuple)):
        raise InputError(
            "a recurrent layer reads a packed sequence, whose states are not looked into. Cure: gather "
            "statistics on plain batches of one length"
        )
    x, hx, weights, has_bias, layers, _, _, both_ways, batch_first = call.args
    states = hx if isinstance(hx, (list, tuple)) else (hx,)
    cells = layers * (1 + both_ways)
    each = len(weights) // cells
    found: Inputs = []
    time = 1 if batch_first else 0
    for layer in range(layers):
        shown = []
        for way in range(1 + both_ways):
            k = layer * (1 + both_ways) + way
            start = tuple(s[k : k + 1] for s in states)
            sequence = x.flip(time) if way else x
            mine, out = _one_layer(call, sequence, start, weights[k * each : (k + 1) * each], bool(has_bias))
            found += mine
            shown.append(out.flip(time) if way else out)
        x = torch.cat(shown, -1)
    return found


def _one_layer(
    call: Call, x: Tensor, start: tuple[Tensor, ...], weights: list[Tensor], has_bias: bool
) -> tuple[Inputs, Tensor]:
    """One layer in one direction by itself.

    With a projection P (h = P u) the same recurrence over u has hidden weights W P: so u, which torch does
    not show, is the result of a layer without projection.
    """
    batch_first = call.args[-1]
    time = 1 if batch_first else 0
    w_ih, w_hh, *rest = weights
    projection = rest[2 * has_bias] if len(rest) > 2 * has_bias else None
    first, hidden = start[0], w_hh
    if projection is not None:
        first, hidden = start[0] @ torch.linalg.pinv(projection).T, w_hh @ projection
    hx = (first.contiguous(), *start[1:]) if len(start) > 1 else first.contiguous()
    flat = [w_ih, hidden, *rest[: 2 * has_bias]]
    out = call.function(x, hx, flat, has_bias, 1, 0.0, False, False, batch_first)[0]
    found: Inputs = [(w_ih, (x,))]
    if projection is not None:
        found.append((projection, (out,)))
        out = out @ projection.T
    previous = torch.cat([start[0].movedim(0, time), out.narrow(time, 0, out.shape[time] - 1)], time)
    return [*found, (w_hh, (previous,))], out


def cell_inputs(call: Call) -> Inputs:
    """Input and previous state of one step."""
    x, hx, w_ih, w_hh, *_ = call.args
    return [(w_ih, (x,)), (w_hh, (hx[0] if isinstance(hx, (list, tuple)) else hx,))]


def attention_inputs(call: Call) -> Inputs:
    """Query, key and value, and the heads' result, which the last map reads."""
    function = F.multi_head_attention_forward
    given = inspect.signature(function).bind(*call.args, **call.kwargs).arguments
    query, key, value = (given[name] for name in ("query", "key", "value"))
    if given.get("use_separate_proj_weight"):
        pairs = zip(("q", "k", "v"), (query, key, value), strict=True)
        found: Inputs = [(given[f"{name}_proj_weight"], (x,)) for name, x in pairs]
    else:
        same = query is key and key is value
        found = [(given["in_proj_weight"], (query,) if same else (query, key, value))]
    last = given["out_proj_weight"]
    plain = {**given, "out_proj_weight": torch.eye(last.shape[1]).to(last), "out_proj_bias": None}
    heads = function(**{**plain, "need_weights": False})[0]
    return [*found, (last, (heads,))]
