r"""Log-normal gates: structured Bayesian pruning (Neklyudov et al., NIPS 2017, arXiv 1705.07283).

Posterior and prior of a gate z, both cut to :math:`\log z \in [a, b]`, with the paper's a = -20 and b = 0:

.. math:: q(\log z) = TN(\mu, \sigma^2; a, b),\qquad p(\log z) = U(a, b)

With :math:`\alpha = (a - \mu)/\sigma`, :math:`\beta = (b - \mu)/\sigma` and :math:`Z = \Phi(\beta) -
\Phi(\alpha)` the KL is the entropy of a truncated normal, shifted (the paper's appendix):

.. math:: KL = \log\frac{b - a}{\sqrt{2\pi e}\,\sigma\,Z} -
          \frac{\alpha\phi(\alpha) - \beta\phi(\beta)}{2Z}

The prior is proper, so that the KL is a code length. A unit is removed when its signal-to-noise ratio
:math:`E[z]/\sqrt{Var[z]}` is below 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from laconic.bayes.gates.gate import Gate, Uniform, uniform_like
from laconic.errors import InputError


@dataclass(frozen=True, eq=False)
class TruncatedLogNormal(Gate):
    r"""Log-normal gates cut to :math:`[e^a, e^b]`.

    Args:
        mu: :math:`\mu`, shape (units,).
        log_sigma: :math:`\log\sigma`, shape (units,).
        low: a, the smallest log z.
        high: b, the largest log z.
        threshold: Signal-to-noise ratio below which a unit is removed.

    Raises:
        InputError: Shapes that differ, low >= high, or a threshold below 0.

    >>> gate = TruncatedLogNormal(torch.tensor([0.0, -10.0]), torch.tensor([-5.0, 1.5]))
    >>> gate.keep().tolist(), [round(n, 2) for n in gate.penalty().tolist()]
    ([True, False], [7.27, 0.18])
    """

    mu: Tensor
    log_sigma: Tensor
    low: float = -20.0
    high: float = 0.0
    threshold: float = 1.0

    def __post_init__(self) -> None:
        if self.mu.shape != self.log_sigma.shape or not self.low < self.high or not self.threshold >= 0:
            raise InputError(
                "log-normal gates need mu and log_sigma of one shape, low < high and threshold >= 0, got "
                f"{tuple(self.mu.shape)} and {tuple(self.log_sigma.shape)}, {self.low} and {self.high}, "
                f"{self.threshold}. Cure: mu and log_sigma of one shape, low=-20, high=0, threshold=1"
            )

    @classmethod
    def open(cls, units: int, log_sigma: float = -5.0) -> TruncatedLogNormal:
        """Gates near 1 with little noise, as the paper starts them."""
        return cls(nn.Parameter(torch.zeros(units)), nn.Parameter(torch.full((units,), log_sigma)))

    def sample(self, noise: Uniform) -> Tensor:
        r""":math:`\exp(\mu + \sigma\Phi^{-1}(\Phi(\alpha) + uZ))`."""
        low, high, mirrored = _on_the_left(*self._edges())
        left, right = torch.special.ndtr(low), torch.special.ndtr(high)
        kind = torch.finfo(left.dtype)
        share = left + uniform_like(self.mu, noise) * (right - left)
        place = torch.special.ndtri(share.clamp(kind.tiny, 1.0 - kind.eps))
        log_z = self.mu + self.log_sigma.exp() * torch.where(mirrored, -place, place)
        return log_z.clamp(self.low, self.high).exp()

    def expectation(self) -> Tensor:
        r""":math:`E[z] = e^{\mu + \sigma^2/2}[\Phi(\sigma - \alpha) - \Phi(\sigma - \beta)]/Z`."""
        return self._log_moment(1).exp()

    def penalty(self) -> Tensor:
        """The KL of each gate, nats."""
        alpha, beta = self._edges()
        log_z = _log_mass(alpha, beta)
        entropy = 0.5 * math.log(2 * math.pi * math.e) + self.log_sigma + log_z
        slopes = alpha * _log_density(alpha).sub(log_z).exp() - beta * _log_density(beta).sub(log_z).exp()
        kl: Tensor = math.log(self.high - self.low) - entropy - 0.5 * slopes
        return kl

    def keep(self) -> Tensor:
        """The units whose signal-to-noise ratio reaches the threshold."""
        return self.signal_to_noise() >= self.threshold

    def signal_to_noise(self) -> Tensor:
        r""":math:`E[z]/\sqrt{Var[z]}`, of the truncated distribution."""
        ratio = (self._log_moment(2) - 2.0 * self._log_moment(1)).exp()  # E[z^2] / E[z]^2
        return (ratio - 1.0).clamp_min(torch.finfo(ratio.dtype).tiny).rsqrt()

    def _edges(self) -> tuple[Tensor, Tensor]:
        sigma = self.log_sigma.exp()
        return (self.low - self.mu) / sigma, (self.high - self.mu) / sigma

    def _log_moment(self, k: int) -> Tensor:
        r""":math:`k\mu + k^2\sigma^2/2 + \log[\Phi(\beta - k\sigma) - \Phi(\alpha - k\sigma)] - \log Z`."""
        alpha, beta = self._edges()
        sigma = self.log_sigma.exp()
        shifted = _log_mass(alpha - k * sigma, beta - k * sigma)
        return k * self.mu + 0.5 * (k * sigma).square() + shifted - _log_mass(alpha, beta)


def _on_the_left(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Two points, mirrored at 0 where both are positive (the third tensor), since lower tails are exact."""
    mirrored = low > 0
    return torch.where(mirrored, -high, low), torch.where(mirrored, -low, high), mirrored


def _log_mass(low: Tensor, high: Tensor) -> Tensor:
    r""":math:`\log[\Phi(high) - \Phi(low)]`."""
    low, high, _ = _on_the_left(low, high)
    upper, lower = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
    below_one = 1.0 - torch.finfo(upper.dtype).eps
    mass: Tensor = upper + torch.log1p(-(lower - upper).exp().clamp_max(below_one))
    return mass


def _log_density(x: Tensor) -> Tensor:
    return -0.5 * (x.square() + math.log(2 * math.pi))
