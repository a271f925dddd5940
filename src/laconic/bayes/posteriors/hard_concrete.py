r"""A hard concrete gate for each weight: L0 regularisation (Louizos, Welling & Kingma, ICLR 2018).

.. math:: w = \theta z,\qquad z \sim \text{hard concrete}(\log\alpha)

(eq. 8 and 10-11). A weight is exactly zero with a probability above zero. Layers draw whole weights, once a
pass: a pre-activation of few open gates is not normal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from laconic.bayes.gates.hard_concrete import HardConcrete
from laconic.bayes.posteriors.posterior import Noise, Posterior
from laconic.errors import InputError

# Moments of a gate are averages over the midpoints of so many equal parts of (0, 1).
_PARTS = 64


@dataclass(frozen=True, eq=False)
class HardConcreteWeights(Posterior):
    r"""Weights times hard concrete gates.

    :meth:`expectation` is what the network computes with, with the gate of eq. 13; it is exactly zero where
    :math:`\log\alpha \le -\log 11`, at the published temperature and stretch. :meth:`moments` are those of
    the distribution.

    Args:
        mean: :math:`\theta`, the weight that an open gate lets through.
        log_alpha: :math:`\log\alpha`, the gates' location; of the same shape.

    >>> q = HardConcreteWeights(torch.tensor([2.0, 2.0]), torch.tensor([0.0, -4.0]))
    >>> q.expectation().tolist(), [round(p, 3) for p in q.open_probability().tolist()]
    ([1.0, 0.0], [0.832, 0.083])
    """

    independent = False

    mean: Tensor
    log_alpha: Tensor

    def moments(self) -> tuple[Tensor, Tensor]:
        r""":math:`\theta E[z]` and :math:`\theta^2 Var[z]`, by a sum over quantiles of z."""
        gate = self._gate()
        first, second = torch.zeros_like(self.mean), torch.zeros_like(self.mean)
        for k in range(_PARTS):
            z = gate.at(torch.full_like(self.log_alpha, (k + 0.5) / _PARTS))
            first, second = first + z / _PARTS, second + z.square() / _PARTS
        return self.mean * first, self.mean.square() * (second - first.square()).clamp_min(0.0)

    def expectation(self) -> Tensor:
        r""":math:`\theta\min(1, \max(0, \sigma(\log\alpha)(\zeta - \gamma) + \gamma))`, eq. 13."""
        return self.mean * self._gate().expectation()

    def log_density(self, values: Tensor) -> Tensor:
        r"""Between the atoms at 0 and :math:`\theta`: that of z at :math:`w/\theta` over :math:`|\theta|`."""
        mean = self.mean.double()
        there = mean != 0
        ratio = values.double() / torch.where(there, mean, 1.0)
        inside = there & (ratio > 0) & (ratio < 1)
        gate = HardConcrete(self.log_alpha.double())
        found = gate.log_density(torch.where(inside, ratio, 0.5)) - torch.where(there, mean.abs(), 1.0).log()
        return torch.where(inside, found, -torch.inf)

    def atoms(self) -> tuple[tuple[Tensor, Tensor], ...]:
        r"""Zero, of a closed gate, and :math:`\theta`, of one that is fully open."""
        closed, fully_open = self._gate().log_ends()
        return (torch.zeros_like(self.mean), closed), (self.mean, fully_open)

    def rsample(self, noise: Noise) -> Tensor:
        """One draw of all gates times the weights, differentiable in both."""
        edge = torch.finfo(self.mean.dtype).eps
        u = torch.special.ndtr(noise.like(self.mean)).clamp(edge, 1.0 - edge)
        return self.mean * self._gate().at(u)

    def hold(self, keep: Tensor) -> None:
        """Zero the weights outside ``keep``; what multiplies them no longer counts."""
        with torch.no_grad():
            self.mean.mul_(keep)

    def open_probability(self) -> Tensor:
        """The probability that each weight is not zero, eq. 12; differentiable."""
        return self._gate().penalty()

    def _gate(self) -> HardConcrete:
        return HardConcrete(self.log_alpha)


@dataclass(frozen=True)
class HardConcreteFamily:
    """Hard concrete gates around the present weights.

    Args:
        probability: Of a gate's concrete variable above one half at the start; a weight is multiplied by
            about this much then.

    Raises:
        InputError: A probability outside (0, 1).

    >>> q = HardConcreteFamily(0.9)("fc.weight", nn.Parameter(torch.ones(1)))
    >>> round(q.log_alpha.item(), 4), round(q.expectation().item(), 4)
    (2.1972, 0.98)
    """

    probability: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.probability < 1:
            raise InputError(
                f"the probability of an open gate lies in (0, 1), got {self.probability}"
                ". Cure: probability=0.9"
            )

    def __call__(self, name: str, weight: nn.Parameter) -> HardConcreteWeights:
        """The posterior of a weight."""
        start = math.log(self.probability / (1.0 - self.probability))
        return HardConcreteWeights(weight, nn.Parameter(torch.full_like(weight, start)))
