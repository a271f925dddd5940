r"""Hard concrete gates: L0 regularisation (Louizos, Welling & Kingma, ICLR 2018, arXiv 1712.01312).

.. math:: u \sim U(0, 1),\quad s = \sigma\big((\log u - \log(1 - u) + \log\alpha)/\beta\big),\quad
          z = \min(1, \max(0, s(\zeta - \gamma) + \gamma))

(eq. 10-11). A gate is exactly zero with a probability above zero. The probability that it is not is (eq. 12)
:math:`P(z \ne 0) = \sigma(\log\alpha - \beta\log(-\gamma/\zeta))`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from laconic.bayes.gates.gate import Gate, Uniform, uniform_like
from laconic.errors import InputError


@dataclass(frozen=True, eq=False)
class HardConcrete(Gate):
    r"""Hard concrete gates with the published temperature and stretch.

    Args:
        log_alpha: :math:`\log\alpha`, the gates' location, shape (units,); of gates of single weights the
            weight's shape.
        beta: Temperature.
        gamma: Left end of the stretched interval, below 0.
        zeta: Its right end, above 1.

    Raises:
        InputError: Other temperatures or ends.

    >>> gate = HardConcrete(torch.tensor([0.0, -4.0, 4.0]))
    >>> [round(p, 3) for p in gate.penalty().tolist()], gate.keep().tolist()
    ([0.832, 0.083, 0.996], [True, False, True])
    """

    log_alpha: Tensor
    beta: float = 2 / 3
    gamma: float = -0.1
    zeta: float = 1.1

    def __post_init__(self) -> None:
        if not (self.beta > 0 and self.gamma < 0 and self.zeta > 1):
            raise InputError(
                f"hard concrete needs beta > 0, gamma < 0 and zeta > 1, got {self.beta}, {self.gamma} and "
                f"{self.zeta}. Cure: beta=2/3, gamma=-0.1, zeta=1.1"
            )

    @classmethod
    def open(cls, units: int, probability: float = 0.9) -> HardConcrete:
        """Gates whose concrete variable is above one half with this probability at the start."""
        if not 0 < probability < 1:
            raise InputError(
                f"the probability of an open gate lies in (0, 1), got {probability}. Cure: probability=0.9"
            )
        return cls(nn.Parameter(torch.full((units,), math.log(probability / (1 - probability)))))

    def sample(self, noise: Uniform) -> Tensor:
        """Eq. 10-11."""
        return self.at(uniform_like(self.log_alpha, noise))

    def at(self, u: Tensor) -> Tensor:
        """The gates that uniform numbers in (0, 1) give, by eq. 10-11."""
        return self._stretched((u.log() - torch.log1p(-u) + self.log_alpha) / self.beta)

    def expectation(self) -> Tensor:
        r"""Eq. 13: :math:`\min(1, \max(0, \sigma(\log\alpha)(\zeta - \gamma) + \gamma))`."""
        return self._stretched(self.log_alpha)

    def penalty(self) -> Tensor:
        r"""The probability that a gate is not zero, eq. 12; a method multiplies it by nats per unit."""
        return torch.sigmoid(self.log_alpha - self.beta * math.log(-self.gamma / self.zeta))

    def keep(self) -> Tensor:
        """The units whose gate of eq. 13 is not zero."""
        return self.expectation() > 0

    def log_ends(self) -> tuple[Tensor, Tensor]:
        r"""Log probabilities that a gate is exactly 0 and exactly 1.

        .. math:: P(z = 0) = \sigma\big(\beta\log\tfrac{-\gamma}{\zeta} - \log\alpha\big),\qquad
                  P(z = 1) = \sigma\big(\log\alpha - \beta\log\tfrac{1 - \gamma}{\zeta - 1}\big)
        """
        at_zero = self.beta * math.log(-self.gamma / self.zeta)
        at_one = self.beta * math.log((1.0 - self.gamma) / (self.zeta - 1.0))
        return F.logsigmoid(at_zero - self.log_alpha), F.logsigmoid(self.log_alpha - at_one)

    def log_density(self, z: Tensor) -> Tensor:
        r"""Log density at z in (0, 1), with s the concrete variable :math:`(z - \gamma)/(\zeta - \gamma)`.

        .. math:: \log\sigma(t) + \log\sigma(-t) + \log\frac{\beta}{s(1 - s)(\zeta - \gamma)},\qquad
                  t = \beta\log\tfrac{s}{1 - s} - \log\alpha
        """
        width = self.zeta - self.gamma
        s = (z - self.gamma) / width
        t = self.beta * torch.logit(s) - self.log_alpha
        log_slope = math.log(self.beta / width) - s.log() - torch.log1p(-s)
        return F.logsigmoid(t) + F.logsigmoid(-t) + log_slope

    def _stretched(self, logit: Tensor) -> Tensor:
        return (torch.sigmoid(logit) * (self.zeta - self.gamma) + self.gamma).clamp(0.0, 1.0)
