"""Stop training at the first NaN or infinity, and name the layer and tensor where it arose.

A step costs one check of the loss. Only when that fails are the inputs, the parameters, the output of every
layer, the gradients and the posteriors' moments searched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from laconic.bayes.prepare import posteriors_of
from laconic.errors import NonFiniteError
from laconic.networks import arguments

_CURES = {
    "parameter": "lower the learning rate, or clip gradients; restart from the last checkpoint",
    "input": "check the data for NaN and for values that were not scaled",
    "output": "lower the learning rate; check the layer's input scale and init_log_var (usual: -8)",
    "gradient": "clip gradients, or lower the learning rate; check for a square root or logarithm at zero",
    "loss": "check the loss function and the labels; warm the KL up more slowly",
}


def check_loss(loss: float | Tensor, net: nn.Module, inputs: Any, *, step: int) -> None:
    """Refuse a loss that is NaN or infinite, and find the tensor where that arose on the same inputs.

    Args:
        loss: The loss of one step.
        net: The network, with the parameters and gradients of that step.
        inputs: The step's inputs.
        step: The step's number, for the message.

    Raises:
        NonFiniteError: The loss is not finite; the message names the layer, the tensor, the step and a cure.

    >>> check_loss(0.5, nn.Linear(2, 1), (torch.zeros(1, 2),), step=3)
    """
    value = float(loss.detach()) if isinstance(loss, Tensor) else float(loss)
    if math.isfinite(value):
        return
    kind, place = find_non_finite(net, inputs)
    raise NonFiniteError(f"the loss is {value} at step {step}: {place}. Cure: {_CURES[kind]}")


def find_non_finite(net: nn.Module, inputs: Any) -> tuple[str, str]:
    """Where the first non-finite number is: a key of the cures, and the words of the message."""
    args, kwargs = arguments(inputs)
    for index, value in enumerate((*args, *kwargs.values())):
        if _bad(value):
            return "input", f"input {index} of the network holds {_count(value)}"
    for name, parameter in net.named_parameters():
        if _bad(parameter):
            layer, _, tensor = name.rpartition(".")
            return "parameter", f"layer {_quoted(layer)}: parameter {tensor!r} holds {_count(parameter)}"
    place = _first_bad_output(net, args, kwargs)
    if place is not None:
        return "output", place
    for name, parameter in net.named_parameters():
        if parameter.grad is not None and _bad(parameter.grad):
            layer, _, tensor = name.rpartition(".")
            return (
                "gradient",
                f"layer {_quoted(layer)}: the gradient of {tensor!r} holds {_count(parameter.grad)}",
            )
    for name, q in posteriors_of(net).items():
        if any(map(_bad, q.moments())):
            widest = max((float(t.max()) for t in q.spread()), default=0.0)
            return (
                "parameter",
                f"{name!r}: a moment of its posterior overflows (log variances or the like up to {widest:g})",
            )
    return "loss", "every parameter, layer output and gradient is finite, so the loss itself is not finite"


def _first_bad_output(net: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """The first layer, in the order in which layers finish, with a non-finite output."""
    found: list[str] = []
    handles = []
    for name, module in net.named_modules():

        def look(module: nn.Module, args: Any, output: Any, name: str = name) -> None:
            bad = next((t for t in _flat(output) if _bad(t)), None)
            if bad is not None:
                found.append(
                    f"layer {_quoted(name)} ({type(module).__name__}): its output holds {_count(bad)}"
                )

        handles.append(module.register_forward_hook(look))
    buffers = {name: b.detach().clone() for name, b in net.named_buffers()}
    try:
        with torch.no_grad():
            net(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
        for name, buffer in net.named_buffers():
            buffer.data.copy_(buffers[name])
    return found[0] if found else None


def _flat(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [t for v in value.values() for t in _flat(v)]
    return [t for v in value for t in _flat(v)] if isinstance(value, list | tuple) else []


def _bad(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and not bool(torch.isfinite(value).all())


def _count(value: Tensor) -> str:
    nans, infs = int(value.isnan().sum()), int(value.isinf().sum())
    return f"{nans} NaN and {infs} infinite of {value.numel()} values"


def _quoted(name: str) -> str:
    return repr(name) if name else "(the network itself)"
