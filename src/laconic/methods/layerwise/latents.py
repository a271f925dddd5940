"""A decided network's weights as real numbers that training may move, while the network sees their grid.

A weight is a real multiple u of its step; the network computes with round(u), and the gradient passes the
rounding as if it were not there (straight-through, Bengio et al. 2013). Steps move by a factor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from laconic.methods.layerwise.trials import Subject, Trial, without
from laconic.quantize.linear_rate import LinearRate, linear_rate
from laconic.quantize.rate_model import rate_bits
from laconic.quantize.second_order import step_mantissa
from laconic.quantize.uniform import bfloat16
from laconic.records import IntTensor, UniformGrid

WITHIN = 0.45
"""How far from its integer a weight starts, in steps, on the side of its original value."""
REST_SPEED = 0.3
"""Learning rate of biases, norms and scales, times their root mean square, over that of weights in steps."""


@dataclass(eq=False)
class _Latent:
    """One tensor: its start, its variables, and what its numbers cost."""

    start: IntTensor
    multiples: Tensor
    steps: Tensor
    growth: Tensor
    keep: Tensor | None
    rate: LinearRate | None
    dtype: torch.dtype

    def rounded(self) -> Tensor:
        """Multiples on their grid, differentiable as if they were not rounded."""
        u = self.multiples
        rounded = u + (u.round() - u).detach()
        return rounded if self.keep is None else rounded * self.keep

    def value(self) -> Tensor:
        return (self.rounded() * (self.steps * self.growth.exp())).to(self.dtype)

    def tensor(self) -> IntTensor:
        integers = self.multiples.detach().round().to(torch.int32).cpu().numpy().copy()
        return IntTensor(self.start.name, np.ascontiguousarray(integers), self._grid())

    def _grid(self) -> UniformGrid:
        grid = self.start.grid
        if not isinstance(grid, UniformGrid):
            raise TypeError(f"{self.start.name}: a decided weight's grid is uniform")
        if not bool(self.growth.detach().any()):
            return grid
        moved = (self.steps * self.growth.detach().exp()).double().reshape(-1).tolist()
        mantissa = 7 if len(moved) < 2 else min(7, step_mantissa(self.multiples.numel() // len(moved)) + 3)
        steps = tuple(bfloat16(step, mantissa) for step in moved)  # no integer makes up for their rounding
        return UniformGrid(steps[0]) if grid.axis is None else UniformGrid(steps, axis=grid.axis)


class Latents:
    """The variables of a refinement.

    Args:
        subject: The network that was decided.
        trial: How it was decided.
        rounding: Whether integers may change; if not, steps, biases, norms and scales alone do.

    Weights that no call multiplies an input with (embeddings), and those that serve elsewhere too, keep their
    integers: the rate would take all rows that the calibration inputs do not use. Tensors of zeros stay so.
    """

    def __init__(self, subject: Subject, trial: Trial, *, rounding: bool = True) -> None:
        fixed = {*subject.unread, *subject.uses.others}
        weights = [n for n in subject.weights if n not in fixed]
        self._trial, self._removed = trial, subject.removed
        self._weights: dict[str, _Latent] = {}
        self._rest: dict[str, _Latent] = {}
        for name, tensor in trial.tensors.items():
            if not tensor.integers.any() or not isinstance(tensor.grid, UniformGrid):
                continue
            original = subject.original.get_parameter(name).detach()
            if name in weights:
                keep = _kept(subject, name, original)
                self._weights[name] = _latent(tensor, original, keep, rounding=rounding)
            elif name in subject.rest:
                self._rest[name] = _latent(tensor, original, None, rounding=False, free=True)
        self.rounding = rounding

    def groups(self, rate: float, step_rate: float) -> list[dict[str, Any]]:
        """Parameter groups for an optimiser.

        Args:
            rate: Learning rate of multiples, in steps.
            step_rate: Learning rate of the logarithms of steps.

        Returns:
            Groups with ``params`` and ``lr``.
        """
        found = [{"params": [x.growth for x in self._weights.values()], "lr": step_rate}]
        if self.rounding:
            found.append({"params": [x.multiples for x in self._weights.values()], "lr": rate})
        for each in self._rest.values():
            size = float(each.multiples.detach().square().mean().sqrt())
            found.append({"params": [each.multiples], "lr": REST_SPEED * rate * max(1.0, size)})
        return [group for group in found if group["params"]]

    def values(self) -> dict[str, Tensor]:
        """What the network's parameters are now, differentiable."""
        return {name: each.value() for name, each in (self._weights | self._rest).items()}

    def rate(self) -> Tensor:
        """Nats of the weights' code by the last counted prices, differentiable."""
        found = [x.rate.nats(x.multiples) for x in self._weights.values() if x.rate is not None]
        return torch.stack(found).sum() if found else torch.zeros(())

    def tensors(self) -> dict[str, IntTensor]:
        """All of the trial's tensors as they would be stored now."""
        moved = {
            name: without(each.tensor(), self._removed.get(name))
            for name, each in (self._weights | self._rest).items()
        }
        return {name: moved.get(name, tensor) for name, tensor in self._trial.tensors.items()}

    def recount(self) -> None:
        """Take the prices from the present integers."""
        if not self.rounding:
            return
        for each in self._weights.values():
            integers = each.tensor().integers
            if integers.any():
                each.rate = linear_rate(integers, each.multiples.device)

    def __len__(self) -> int:
        return len(self._weights) + len(self._rest)


def code_nats(tensors: Mapping[str, IntTensor]) -> float:
    """Nats of all integers, each tensor's under its own statistics.

    >>> code_nats({"w": IntTensor("w", np.int32([[0, 0]]), UniformGrid(1.0))})
    0.0
    """
    return math.log(2.0) * sum(rate_bits(tensor.integers) for tensor in tensors.values())


def _latent(
    tensor: IntTensor, original: Tensor, keep: Tensor | None, *, rounding: bool, free: bool = False
) -> _Latent:
    """A tensor's variables: ``rounding`` moves its integers under a rate, ``free`` without one."""
    device = original.device
    grid = tensor.grid
    if not isinstance(grid, UniformGrid):
        raise TypeError(f"{tensor.name}: a decided weight's grid is uniform")
    steps = torch.tensor(grid.numbers, dtype=torch.float32, device=device)
    shape = [1] * tensor.integers.ndim
    if grid.axis is not None:
        shape[grid.axis] = -1
    steps = steps.reshape(shape)
    integers = torch.from_numpy(tensor.integers).to(device=device, dtype=torch.float32)
    start = integers
    if rounding:
        near = original.float() / steps
        start = torch.minimum(torch.maximum(near, integers - WITHIN), integers + WITHIN)
        start = start if keep is None else start * keep
    return _Latent(
        tensor,
        start.clone().requires_grad_(rounding or free),
        steps,
        torch.zeros_like(steps).requires_grad_(not free),
        keep,
        linear_rate(tensor.integers, device) if rounding else None,
        original.dtype,
    )


def _kept(subject: Subject, name: str, original: Tensor) -> Tensor | None:
    removed = subject.removed.get(name)
    if removed is None or removed.shape != tuple(original.shape):
        return None
    return torch.from_numpy(~removed).to(device=original.device, dtype=torch.float32)
