r"""A Laplace posterior by weight, and its KL to a Laplace prior.

:math:`q(w) = \frac1{2b} e^{-|w - \theta| / b}`, with the mean :math:`\theta` and :math:`\log b` learned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from laconic.bayes import Noise, Posterior, register_kl
from laconic.errors import InputError
from ordinal_laplace.laplace import Laplace

HELD_LOG_SCALE = -10.0
"""log b of a weight that is held at zero: its variance is 2 e^-20."""


@dataclass(frozen=True, eq=False)
class LaplaceWeights(Posterior):
    r"""Independent Laplace distributions; ``mean`` and ``log_scale`` (log b) have the weight's shape.

    A linear layer adds up many weights, so local reparameterisation with these moments is a normal
    approximation of its pre-activations; ``sampling="weights"`` draws the weights themselves.

    >>> q = LaplaceWeights(torch.zeros(2), torch.zeros(2))
    >>> q.moments()[1].tolist()
    [2.0, 2.0]
    """

    mean: Tensor
    log_scale: Tensor

    def moments(self) -> tuple[Tensor, Tensor]:
        r""":math:`\theta` and :math:`2 b^2`."""
        return self.mean, 2.0 * (2.0 * self.log_scale).exp()

    def rsample(self, noise: Noise) -> Tensor:
        r"""The inverse distribution function of :math:`\Phi(\epsilon)`; differentiable.

        .. math:: w = \theta - b\, \mathrm{sign}(\epsilon) \log \mathrm{erfc}(|\epsilon| / \sqrt2)
        """
        normal = noise.like(self.mean)
        tail = torch.erfc(normal.abs() / math.sqrt(2)).clamp_min(torch.finfo(normal.dtype).tiny)
        return self.mean - self.log_scale.exp() * normal.sign() * tail.log()

    def hold(self, keep: Tensor) -> None:
        """Set the weights outside ``keep`` to zero, in place, with next to no noise."""
        with torch.no_grad():
            self.mean.mul_(keep)
            self.log_scale.masked_fill_(~keep, HELD_LOG_SCALE)


@dataclass(frozen=True)
class LaplaceFamily:
    """A Laplace distribution around each present weight.

    Args:
        init_log_scale: log b at the start, in [-30, 10].

    >>> LaplaceFamily(-4.0)("fc.weight", nn.Parameter(torch.ones(2))).log_scale.tolist()
    [-4.0, -4.0]
    """

    init_log_scale: float = -4.0

    def __post_init__(self) -> None:
        if not -30.0 <= self.init_log_scale <= 10.0:
            raise InputError(f"init_log_scale must lie in [-30, 10], got {self.init_log_scale}")

    def __call__(self, name: str, weight: nn.Parameter) -> LaplaceWeights:
        """The posterior of a weight."""
        return LaplaceWeights(weight, nn.Parameter(torch.full_like(weight, self.init_log_scale).detach()))


@register_kl(LaplaceWeights, Laplace)
def laplace_laplace(q: LaplaceWeights, p: Laplace) -> Tensor:
    r"""KL by weight, nats, of scale b to the prior's scale s.

    .. math:: KL = \log\frac{s}{b} - 1 + \frac{|\theta| + b e^{-|\theta| / b}}{s}

    The last term is :math:`E|w| / s`, and :math:`\log 2b + 1` is the posterior's entropy.
    """
    scale, size = q.log_scale.exp(), q.mean.abs()
    return math.log(p.scale) - q.log_scale - 1.0 + (size + scale * torch.exp(-size / scale)) / p.scale
