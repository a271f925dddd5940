r"""The fully factorised Gaussian posterior in additive form (Molchanov et al. 2017, section 4.2).

:math:`q(w) = N(\theta, \sigma^2)` by weight, :math:`\theta` and :math:`\log\sigma^2` being the free numbers.
Against the multiplicative form :math:`N(\theta, \alpha\theta^2)` of Kingma et al. 2015 the gradient to
:math:`\theta` no longer carries the noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from laconic.errors import InputError
from laconic.records import WeightStats

EPSILON = 1e-8


HELD_LOG_VAR = -20.0
"""Log variance of a weight that is held at zero."""


@dataclass(frozen=True, eq=False)
class Gaussian:
    r"""Independent normals :math:`N(mean, e^{log\_var})`; both tensors have the weight's shape.

    Raises InputError when the shapes differ.

    >>> import torch
    >>> q = Gaussian(torch.tensor([0.5]), torch.tensor([-2.0]))
    >>> round(q.std.item(), 4), round(q.log_alpha().item(), 4)
    (0.3679, -0.6137)
    """

    mean: Tensor
    log_var: Tensor

    def __post_init__(self) -> None:
        if self.mean.shape != self.log_var.shape:
            raise InputError(
                f"a posterior's mean and log variance must have one shape, got {tuple(self.mean.shape)} "
                f"and {tuple(self.log_var.shape)}"
            )

    @property
    def variance(self) -> Tensor:
        r""":math:`\sigma^2`."""
        return self.log_var.exp()

    @property
    def std(self) -> Tensor:
        r""":math:`\sigma`."""
        return (0.5 * self.log_var).exp()

    def log_alpha(self, eps: float = EPSILON) -> Tensor:
        r"""The log dropout rate :math:`\log\alpha = \log\sigma^2 - \log(\theta^2 + eps)`."""
        return self.log_var - torch.log(self.mean.square() + eps)

    def rsample(self, generator: torch.Generator) -> Tensor:
        r""":math:`\theta + \sigma\epsilon` with fresh standard normal noise; differentiable."""
        noise = torch.empty_like(self.mean).normal_(generator=generator)
        return self.mean + self.std * noise

    def hold(self, keep: Tensor) -> None:
        """Set the weights outside ``keep`` to zero, in place, with a variance of :math:`e^{-20}`: next to no
        noise.
        """
        with torch.no_grad():
            self.mean.mul_(keep)
            self.log_var.masked_fill_(~keep, HELD_LOG_VAR)

    def stats(self, name: str) -> WeightStats:
        """The numbers a decision needs, as float32 arrays, with log alpha as the evidence for zero."""
        with torch.no_grad():
            mean, variance, odds = (
                t.detach().to("cpu", torch.float32).contiguous().numpy().copy()
                for t in (self.mean, self.variance, self.log_alpha())
            )
        return WeightStats(name, mean, variance, odds)
