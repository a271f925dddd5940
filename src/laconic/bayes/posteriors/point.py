r"""A point estimate as a posterior: all of its probability on one value (Ullrich et al. 2017, eq. 3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from laconic.bayes.posteriors.posterior import Noise, Posterior


@dataclass(frozen=True, eq=False)
class Point(Posterior):
    r""":math:`q(w) = \delta(w - \theta)`.

    Its KL to a prior is :math:`-\log p(\theta)` up to an infinite constant, so that training under it is
    maximum a posteriori.

    Args:
        mean: :math:`\theta`, shape of the weight.

    >>> [moment.tolist() for moment in Point(torch.tensor([0.5])).moments()]
    [[0.5], [0.0]]
    """

    mean: Tensor

    def expectation(self) -> Tensor:
        """The value itself."""
        return self.mean

    def moments(self) -> tuple[Tensor, Tensor]:
        r""":math:`\theta` and 0."""
        return self.mean, torch.zeros_like(self.mean)

    def log_density(self, values: Tensor) -> Tensor:
        """There is no density beside the atom."""
        return torch.full_like(values.double() + self.mean, -torch.inf)

    def atoms(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """The value itself, with probability 1."""
        return ((self.mean, torch.zeros_like(self.mean)),)

    def rsample(self, noise: Noise) -> Tensor:
        """The value itself: there is no noise."""
        return self.mean

    def hold(self, keep: Tensor) -> None:
        """Set the weights outside ``keep`` to zero, in place."""
        with torch.no_grad():
            self.mean.mul_(keep)
