"""Optimisers and learning-rate schedules as settings: frozen, so that a run's record holds them.

PyTorch's own may be used in their place: an optimiser is any function of parameter groups, a
schedule any function of an optimiser and the number of steps that returns one of torch's schedulers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from laconic.errors import InputError

Groups = list[dict[str, Any]]
OptimizerFactory = Callable[[Groups], torch.optim.Optimizer]
ScheduleFactory = Callable[[torch.optim.Optimizer, int], LRScheduler]


@dataclass(frozen=True)
class Adam:
    """Adam, or AdamW (whose decay stands apart from the gradients) where there is weight decay.

    On a CPU it is torch's fused step, which passes over memory once and not ten times.

    Args:
        weight_decay: Decoupled weight decay.

    >>> Adam()([{"params": [torch.zeros(2, requires_grad=True)], "lr": 0.1}]).__class__.__name__
    'Adam'
    """

    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check_decay(self.weight_decay)

    def __call__(self, groups: Groups) -> torch.optim.Optimizer:
        """The optimiser of these parameter groups."""
        kind = torch.optim.AdamW if self.weight_decay else torch.optim.Adam
        own = [p for group in groups for p in group["params"]]
        fused = True if all(p.is_floating_point() and p.device.type == "cpu" for p in own) else None
        optimizer = kind(groups, weight_decay=self.weight_decay, fused=fused)
        if fused:
            optimizer.register_step_pre_hook(_lay_out_like_parameters)
        return optimizer


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with Nesterov's momentum.

    Args:
        momentum: Weight of the past gradients, in [0, 1).
        weight_decay: Added to the gradients.

    >>> SGD(momentum=0.5)([{"params": [torch.zeros(2, requires_grad=True)], "lr": 0.1}]).defaults["momentum"]
    0.5
    """

    momentum: float = 0.9
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check_decay(self.weight_decay)
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum must lie in [0, 1), got {self.momentum}. Cure: momentum=0.9")

    def __call__(self, groups: Groups) -> torch.optim.Optimizer:
        """The optimiser of these parameter groups."""
        return torch.optim.SGD(
            groups, momentum=self.momentum, nesterov=self.momentum > 0, weight_decay=self.weight_decay
        )


def _check_decay(weight_decay: float) -> None:
    if not 0 <= weight_decay < math.inf:
        raise InputError(f"weight_decay must be finite and >= 0, got {weight_decay}. Cure: weight_decay=0")


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
