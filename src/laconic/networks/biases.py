"""Which bias a call adds to what a weight gives: linear maps, convolutions, recurrent layers, attention."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F

from laconic.networks.watching import Call

Pairs = list[tuple[Any, Any]]


def added_bias(call: Call, name: str, names: Mapping[int, str]) -> str | None:
    """The bias that a call adds to the product of one of its weights.

    Args:
        call: A call that reads the weight.
        name: The weight's name.
        names: Names of a network's parameters by their identity.

    Returns:
        The bias's name; None where none is added, or one that is no parameter.

    >>> layer = torch.nn.Linear(2, 3)
    >>> call = Call(F.linear, (torch.ones(1, 2), layer.weight, layer.bias), {})
    >>> added_bias(call, "w", {id(layer.weight): "w", id(layer.bias): "b"})
    'b'
    """
    find = _CALLS.get(call.function)
    pairs = find(call) if find is not None else []
    for weight, bias in pairs:
        if names.get(id(weight)) == name:
            return names.get(id(bias))
    return None


def _layer(call: Call) -> Pairs:
    return [(call.argument(1, "weight"), call.argument(2, "bias"))]


def _recurrent(call: Call) -> Pairs:
    weights, has_bias, layers, both_ways = call.args[2], call.args[3], call.args[4], call.args[7]
    if not isinstance(weights, (list, tuple)) or not has_bias:
        return []
    each = len(weights) // (layers * (1 + both_ways))
    starts = range(0, len(weights), each)
    return [(weights[k + i], weights[k + i + 2]) for k in starts for i in (0, 1)]


def _cell(call: Call) -> Pairs:
    _, _, w_ih, w_hh, *biases = call.args
    return list(zip((w_ih, w_hh), biases, strict=False))


def _attention(call: Call) -> Pairs:
    given = inspect.signature(F.multi_head_attention_forward).bind(*call.args, **call.kwargs).arguments
    pairs = [(given["out_proj_weight"], given["out_proj_bias"])]
    if not given.get("use_separate_proj_weight"):
        pairs.append((given["in_proj_weight"], given["in_proj_bias"]))
    return pairs


def _kernels(*names: str) -> tuple[Callable[..., Any], ...]:
    rooms: tuple[Any, ...] = (torch, torch._VF)
    return tuple(f for name in names for room in rooms if (f := getattr(room, name, None)) is not None)


_CALLS: dict[Any, Callable[[Call], Pairs]] = {
    **dict.fromkeys((F.linear, F.conv1d, F.conv2d, F.conv3d), _layer),
    **dict.fromkeys((F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d), _layer),
    **dict.fromkeys(_kernels("lstm", "gru", "rnn_tanh", "rnn_relu"), _recurrent),
    **dict.fromkeys(_kernels("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"), _cell),
    F.multi_head_attention_forward: _attention,
}
