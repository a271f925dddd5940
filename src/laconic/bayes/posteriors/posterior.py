"""The base class of posterior families: moments, draws, statistics and parameters."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from laconic.bayes.parametric import Parametric
from laconic.records import WeightStats


class Noise(Protocol):
    """A source of standard normal noise (:class:`laconic.bayes.NoiseSource`)."""

    def like(self, t: Tensor) -> Tensor:
        """Noise with the shape, layout, type and device of ``t``."""


@dataclass(frozen=True, eq=False)
class Posterior(Parametric, ABC):
    r"""A posterior :math:`q(w)` of one weight tensor.

    A user's own family is a frozen dataclass that inherits this class: its tensor fields are the
    parameters, and :meth:`moments` and :meth:`hold` must be written. The field called ``mean`` is the
    network's own weight; each other one stands beside it as ``<weight>_<field>``. Layers, KLs and methods ask
    for moments and draws, and never for a parameter by name.

    ``independent``: whether the weights are independent of each other, so that a linear layer may draw its
    pre-activations from their moments in place of the weights (local reparameterisation).
    ``on_inputs``: whether all weights that read an input share one random factor, so that a layer may
    multiply its inputs in place of the weights.

    >>> @dataclass(frozen=True, eq=False)
    ... class Fixed(Posterior):
    ...     mean: Tensor
    ...     def moments(self): return self.mean, torch.full_like(self.mean, 0.01)
    ...     def hold(self, keep): self.mean.data.mul_(keep)
    >>> q = Fixed(torch.ones(2))
    >>> list(q.parameters()), [round(v, 2) for v in q.moments()[1].tolist()]
    ([''], [0.01, 0.01])
    """

    weight: ClassVar[str | None] = "mean"
    independent: ClassVar[bool] = True
    on_inputs: ClassVar[bool] = False

    @abstractmethod
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of each weight, both of the weight's shape; differentiable."""

    @abstractmethod
    def hold(self, keep: Tensor) -> None:
        """Set the weights outside ``keep`` (boolean, the weight's shape) to zero in place, with next to no
        noise.
        """

    def expectation(self) -> Tensor:
        """The mean of each weight: what the network computes with in evaluation mode."""
        return self.moments()[0]

    def rsample(self, noise: Noise) -> Tensor:
        """A draw of all weights, of the weight's shape, differentiable. Default: normal with these
        moments.
        """
        mean, variance = self.moments()
        return mean + variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt() * noise.like(mean)

    def log_density(self, values: Tensor) -> Tensor:
        r"""Log of the density of q at given values, without its atoms (:meth:`atoms`).

        .. math:: \log q(w) = -\frac{(w - \theta)^2}{2\sigma^2} - \tfrac12\log(2\pi\sigma^2)

        Default: normal with these moments. A family of another shape overrides it.

        Args:
            values: In the weights' unit, a shape that broadcasts to the weight's.

        Returns:
            Nats, float64, of the weight's shape; minus infinity where there is no density.
        """
        mean, variance = (t.double() for t in self.moments())
        variance = variance.clamp_min(torch.finfo(torch.float32).tiny)
        square = (values.double() - mean).square()
        return -0.5 * (square / variance + variance.log() + math.log(2.0 * math.pi))

    def atoms(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """Values that a weight takes with a probability above zero. Default: none.

        Returns:
            For each atom of a weight its place and its log probability, both of the weight's shape.
        """
        return ()

    def std_of(self, pick: Callable[[Tensor], Tensor]) -> Tensor:
        """The standard deviation of those weights that ``pick`` takes from a tensor of the weight's shape."""
        variance = pick(self.moments()[1])
        return variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt()

    def spread(self) -> list[Tensor]:
        """The parameters that set how wide the posterior is; they have a learning rate of their own.
        Default: all but the weight itself.
        """
        return [tensor for suffix, tensor in self.parameters().items() if suffix]

    def clamp_spread(self, low: float, high: float) -> None:
        """Keep the parameters of :meth:`spread` (log variances, log dropout rates) inside [low, high], in
        place.
        """
        with torch.no_grad():
            for tensor in self.spread():
                tensor.clamp_(low, high)

    def stats(self, name: str) -> WeightStats:
        """Mean and variance, float32 arrays of the weight's shape, for pruning and quantising."""
        with torch.no_grad():
            mean, variance = (
                t.detach().to("cpu", torch.float32).contiguous().numpy().copy() for t in self.moments()
            )
        return WeightStats(name, mean, variance)


Family = Callable[[str, nn.Parameter], Posterior]
"""A posterior around a weight, from the weight's full name and the weight itself, which it must hold."""
