"""The base class of gates: a random factor for each unit of a group, and its penalty."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from laconic.bayes.parametric import Parametric


class Uniform(Protocol):
    """A source of random generators (:class:`laconic.bayes.NoiseSource`)."""

    def generator(self, device: torch.device | str = "cpu") -> torch.Generator:
        """The generator of one device."""

    def like(self, t: Tensor) -> Tensor:
        """Standard normal noise with the shape, layout, type and device of ``t``."""


@dataclass(frozen=True, eq=False)
class Gate(Parametric, ABC):
    """One random factor z for each unit of a group; its tensor fields are parameters of shape (units,), or of
    shape (1,) where the units share a number.

    A user's own gate is a frozen dataclass that inherits this class and writes the four functions below.
    """

    @abstractmethod
    def sample(self, noise: Uniform) -> Tensor:
        """A draw of z, shape (units,); differentiable in the parameters."""

    @abstractmethod
    def expectation(self) -> Tensor:
        """The factors of evaluation mode, shape (units,); differentiable."""

    def variance(self) -> Tensor:
        """Variance of z, shape (units,). Default: zero, for gates whose expectation is all that is stored."""
        return torch.zeros_like(self.expectation())

    @abstractmethod
    def penalty(self) -> Tensor:
        """The penalty of each unit, shape (units,), differentiable: nats, or the probability of z != 0."""

    @abstractmethod
    def keep(self) -> Tensor:
        """Which units are kept, boolean, shape (units,)."""


def uniform_like(t: Tensor, noise: Uniform) -> Tensor:
    """Uniform draws in the open interval (0, 1), with the shape, type and device of ``t``."""
    drawn = torch.rand(t.shape, generator=noise.generator(t.device), dtype=t.dtype, device=t.device)
    edge = torch.finfo(t.dtype).eps
    return drawn.clamp(edge, 1.0 - edge)
