r"""The Laplace prior :math:`p(w) = \frac1{2b} e^{-|w|/b}` (Williams 1995; Tibshirani 1996, section 5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from laconic.bayes.priors.checks import check_numbers, check_widths
from laconic.bayes.priors.density import DensityPrior, uniform
from laconic.errors import InputError


@dataclass(frozen=True)
class Laplace(DensityPrior):
    r"""Independent Laplace distributions around zero: a proper prior, its KL a code length.

    Its KL from a point is an L1 penalty, :math:`|\theta|/b + \log 2b`: the weights of the largest posterior
    density under it are those of the lasso (Tibshirani 1996, section 5). The KL from a Gaussian is a closed
    form (:mod:`laconic.bayes.kl.gaussian_laplace`).

    Args:
        scale: b, the mean of :math:`|w|`, above 0; the standard deviation is :math:`\sqrt2\,b`.

    Raises:
        InputError: A scale that is not above 0 and finite.

    >>> from laconic.bayes import Point, kl_divergence
    >>> kl = kl_divergence(Point(torch.tensor([0.0, 1.0, -2.0])), Laplace(0.5))
    >>> kl.tolist()  # |w| / b, since log 2b is 0
    [0.0, 2.0, 4.0]
    """

    scale: float = 0.1

    def __post_init__(self) -> None:
        check_numbers(self, scale=0.1)
        if not 0 < self.scale < math.inf:
            raise InputError(f"a Laplace prior needs a finite scale > 0, got {self.scale}. Cure: scale=0.1")
        check_widths(self, scale=0.1)

    def log_density(self, weights: Tensor) -> Tensor:
        r""":math:`-|w|/b - \log 2b` by weight, nats.

        Args:
            weights: Any shape.

        Returns:
            Of that shape.
        """
        return -weights.abs() / self.scale - math.log(2 * self.scale)

    def sample(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Draws by the inverse distribution function of an exponential, with a random sign.

        Args:
            shape: Shape of what is returned.
            generator: The source of randomness.

        Returns:
            float32.
        """
        sign = torch.where(uniform(shape, generator) < 0.5, -1.0, 1.0)
        return (-self.scale * sign * uniform(shape, generator).log()).float()
