"""The optimiser of the fit loop: Adam in one pass over memory, AdamW, or SGD with momentum."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

Groups = list[dict[str, Any]]


def adam(groups: Groups, lr: float, weight_decay: float, device: torch.device) -> torch.optim.Adam:
    """Adam, or AdamW where weights decay; on a CPU torch's fused step, 10 passes over memory in one.

    >>> net = torch.nn.Linear(2, 1)
    >>> adam([{"params": [*net.parameters()]}], 1e-3, 0.0, torch.device("cpu")).defaults["fused"]
    True
    """
    kind = torch.optim.AdamW if weight_decay else torch.optim.Adam
    real = all(p.is_floating_point() for group in groups for p in group["params"])
    fused = True if real and device.type == "cpu" else None
    optimizer = kind(groups, lr=lr, weight_decay=weight_decay, fused=fused)
    if fused:
        optimizer.register_step_pre_hook(_lay_out_like_parameters)
    return optimizer


def sgd(groups: Groups, lr: float, momentum: float, weight_decay: float) -> torch.optim.SGD:
    """SGD with Nesterov's momentum, or without any."""
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0, weight_decay=weight_decay)


def _lay_out_like_parameters(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Gradients and moments get their parameter's strides.

    The fused step pairs numbers by their place in memory and looks at no strides. A checkpoint's moments, or
    a hook's gradient, may be laid out in another way than a weight that is laid out by pixel.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            grad = parameter.grad
            if grad is None:
                continue
            if grad.stride() != parameter.stride():
                parameter.grad = _laid_like(grad, parameter)
            state = optimizer.state.get(parameter, {})
            for key, moment in state.items():
                if moment.shape == parameter.shape and moment.stride() != parameter.stride():
                    state[key] = _laid_like(moment, parameter)


def _laid_like(t: Tensor, like: Tensor) -> Tensor:
    return torch.empty_like(like, dtype=t.dtype).copy_(t)
