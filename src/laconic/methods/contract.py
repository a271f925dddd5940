"""What every method promises: the same verbs, in the same order, over the same context."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from laconic.bayes.layers.noise import NoiseSource
from laconic.bayes.objective import check_data_size
from laconic.bayes.policy import Policy
from laconic.errors import InputError
from laconic.records import ActivationRange, Tensor


@dataclass(frozen=True)
class Score:
    """How good a network is on a set: ``error`` (share in [0, 1]), ``nll`` (nats per example), size."""

    error: float
    nll: float
    examples: int


Evaluate = Callable[[nn.Module], Score]


@dataclass(frozen=True)
class Context:
    """Where training stands.

    ``data_size`` training examples in all, ``noise`` the only source of randomness, ``step``
    optimiser steps done, ``examples`` examples seen (so ``epochs`` needs no loader),
    ``total_steps`` if it is known in advance, ``example``, the input the network was prepared with, and
    ``policy``, what the user says of single parameters (which stay as they are, which are weights).
    """

    data_size: int
    noise: NoiseSource
    step: int = 0
    examples: int = 0
    total_steps: int | None = None
    example: Any = None
    policy: Policy = Policy()

    def __post_init__(self) -> None:
        check_data_size(self.data_size)
        if self.total_steps is not None and self.total_steps < 1:
            raise InputError(f"total_steps must be positive or None, got {self.total_steps}")

    @property
    def epochs(self) -> float:
        """Passes over the data so far."""
        return self.examples / self.data_size

    def progress(self, epochs: float) -> float:
        """Share of training that is done: of ``total_steps``, or of ``epochs`` where these are not known."""
        return self.epochs / epochs if self.total_steps is None else self.step / self.total_steps


@dataclass(frozen=True)
class Target:
    """What the user asks for; ``None`` leaves a side free.

    ``max_drop``: percentage points of validation error that may be lost against the original
    network (0.3 means 0.3 points). ``max_bytes``: length of the file.
    """

    max_drop: float | None = None
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.max_drop is not None and not self.max_drop >= 0:
            raise InputError(f"max_drop is in percentage points and must be >= 0, got {self.max_drop}")
        if self.max_bytes is not None and not self.max_bytes > 0:
            raise InputError(f"max_bytes must be positive, got {self.max_bytes}")


@dataclass(frozen=True)
class Judge:
    """How ``convert`` tells good settings from bad ones: the validation split, never the test set.

    ``evaluate`` scores a plain network; ``original`` is the uncompressed network's score.
    """

    evaluate: Evaluate
    original: Score | None = None
    target: Target = field(default_factory=Target)


@dataclass(frozen=True, eq=False)
class Compressed:
    """A compressed network: plain ``module``, its ``tensors`` as integers + grids, and ``facts``.

    ``module``'s parameters hold exactly the values that ``tensors`` decode to. ``facts`` is JSON-able:
    what was chosen and what it measured on the validation split. ``example`` is what the graph is
    captured with when the network is saved. ``ranges`` are the activation ranges of a network that was
    calibrated for int8 (see ``laconic.quantize_activations``), ``dynamic`` the axes that are free in its file
    (see ``laconic.save``).
    """

    module: nn.Module
    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]
    example: Any = None
    ranges: tuple[ActivationRange, ...] = ()
    dynamic: Any = None

    @property
    def record(self) -> dict[str, Any]:
        """Counts by tensor beside ``facts``: weights, non-zeros, share of non-zeros."""
        rows = {
            name: {"weights": int(t.values().size), "nonzeros": t.nonzeros()}
            for name, t in self.tensors.items()
        }
        return {**self.facts, "tensors": rows}


class Method(Protocol):
    """A published method as a frozen dataclass with these verbs.

    ``penalty`` is in nats for the whole data set, already weighted (KL weight, warm-up); the public
    door divides by the data size. ``step`` runs after each optimiser step (schedules, projections).
    """

    def prepare(self, model: nn.Module, example: Any, context: Context) -> nn.Module:
        """A trainable copy with the same forward signature; ``model`` is left as it was."""
        ...

    def penalty(self, module: nn.Module, context: Context) -> torch.Tensor:
        """Weighted nats for the whole data set, a differentiable scalar."""
        ...

    def param_groups(self, module: nn.Module, lr: float) -> list[dict[str, Any]]:
        """Optimiser parameter groups with the method's learning-rate ratios."""
        ...

    def step(self, module: nn.Module, context: Context) -> None:
        """After each optimiser step: schedules and projections."""
        ...

    def convert(self, module: nn.Module, context: Context, judge: Judge | None = None) -> Compressed:
        """Decide: a plain network whose weights are integers on grids."""
        ...
