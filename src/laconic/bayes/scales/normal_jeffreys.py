r"""Gaussian gates under a log-uniform prior: BC-GNJ (Louizos, Ullrich & Welling, NIPS 2017, section 4.1).

.. math:: q(z) = N(\mu, \sigma^2),\qquad p(z) \propto 1/|z|

With weights :math:`\tilde w \sim N(0, 1)` the products :math:`w_{ij} = z_i\tilde w_{ij}` have the
normal-Jeffreys prior of their group. The prior has no normaliser: the KL is known up to a constant, and
depends on :math:`\log\alpha = \log\sigma^2 - \log\mu^2` alone (eq. 7; :class:`laconic.bayes.LogUniform`). A
unit is removed when its log alpha is high: its factor is mostly noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from laconic.bayes.gates.gate import Gate, Uniform
from laconic.bayes.kl import kl_divergence
from laconic.bayes.posteriors import Gaussian
from laconic.bayes.priors import LogUniform
from laconic.errors import InputError


@dataclass(frozen=True, eq=False)
class NormalJeffreys(Gate):
    r"""Gaussian gates with a log-uniform prior.

    Args:
        mean: :math:`\mu`, shape (units,).
        log_var: :math:`\log\sigma^2`, of the same shape.
        threshold: log alpha from which on a unit is removed.

    Raises:
        InputError: Shapes that differ, or a threshold that is no number.

    >>> gate = NormalJeffreys(torch.tensor([1.0, 0.01]), torch.tensor([-9.0, -2.0]))
    >>> gate.keep().tolist(), [round(n, 2) for n in gate.penalty().tolist()]
    ([True, False], [5.14, 0.0])
    """

    mean: Tensor
    log_var: Tensor
    threshold: float = 3.0

    def __post_init__(self) -> None:
        if self.mean.shape != self.log_var.shape or math.isnan(self.threshold):
            raise InputError(
                "Gaussian gates need mean and log_var of one shape and a threshold, got "
                f"{tuple(self.mean.shape)} and {tuple(self.log_var.shape)}, {self.threshold}. Cure: mean and "
                "log_var of one shape, threshold=3"
            )

    @classmethod
    def open(cls, units: int, log_var: float = -9.0) -> NormalJeffreys:
        """Gates at 1 with little noise; -9 is the authors' start."""
        return cls(nn.Parameter(torch.ones(units)), nn.Parameter(torch.full((units,), log_var)))

    def sample(self, noise: Uniform) -> Tensor:
        r""":math:`\mu + \sigma\epsilon`."""
        return self.mean + (0.5 * self.log_var).exp() * noise.like(self.mean)

    def expectation(self) -> Tensor:
        r""":math:`\mu`."""
        return self.mean.clone()

    def variance(self) -> Tensor:
        r""":math:`\sigma^2`."""
        return self.log_var.exp()

    def penalty(self) -> Tensor:
        """The KL of each gate, nats up to a constant, 0 for a gate that is all noise."""
        return kl_divergence(Gaussian(self.mean, self.log_var), LogUniform())

    def keep(self) -> Tensor:
        """The units whose log alpha is below the threshold."""
        return self.log_alpha() < self.threshold

    def score(self) -> Tensor:
        r""":math:`-\log\alpha`: the higher, the more of a unit's factor is signal."""
        return -self.log_alpha()

    def log_alpha(self) -> Tensor:
        r""":math:`\log\sigma^2 - \log(\mu^2 + 10^{-8})`."""
        return Gaussian(self.mean, self.log_var).log_alpha()

    def clamp(self, low: float, high: float) -> None:
        """Keep log variances inside [low, high], in place."""
        with torch.no_grad():
            self.log_var.clamp_(low, high)
