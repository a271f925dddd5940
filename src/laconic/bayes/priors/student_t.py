r"""Student's t distribution as a prior: heavy tails, so that a large weight costs little."""

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
class StudentT(DensityPrior):
    r"""Independent t distributions around zero, :math:`p(w) \propto (1 + w^2/(\nu s^2))^{-(\nu + 1)/2}`.

    It is a normal whose variance has an inverse Gamma prior (Tipping 2001, section 5.1), and a Cauchy
    distribution for :math:`\nu = 1`. It is proper. Its KL from a Gaussian has no closed form; it is
    integrated, with the error bound of :func:`laconic.bayes.kl.gaussian_density.student_t_error`.

    Args:
        df: :math:`\nu`, degrees of freedom, above 0; below 2 the variance is infinite.
        scale: s, in the weights' unit, above 0.

    Raises:
        InputError: A number that is not above 0 and finite.

    >>> round(StudentT(df=1.0, scale=1.0).log_density(torch.tensor(1.0)).item(), 4)  # -log 2 pi
    -1.8379
    """

    df: float = 3.0
    scale: float = 0.1

    def __post_init__(self) -> None:
        check_numbers(self, df=3.0, scale=0.1)
        if not (0 < self.df < math.inf and 0 < self.scale < math.inf):
            raise InputError(
                f"Student's t prior needs df > 0 and scale > 0, both finite, got {self.df} and {self.scale}. "
                "Cure: df=3, scale=0.1"
            )
        check_widths(self, df=3.0, scale=0.1)

    def log_density(self, weights: Tensor) -> Tensor:
        r""":math:`\log p(w)` by weight, nats.

        Args:
            weights: Any shape.

        Returns:
            Of that shape.
        """
        half = 0.5 * (self.df + 1.0)
        constant = math.lgamma(half) - math.lgamma(0.5 * self.df)
        constant -= 0.5 * math.log(self.df * math.pi) + math.log(self.scale)
        return constant - half * torch.log1p((weights / self.scale).square() / self.df)

    def sample(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        r"""Draws by the polar method (Bailey 1994): :math:`s\sqrt{\nu(u^{-2/\nu} - 1)}\cos 2\pi v`.

        Args:
            shape: Shape of what is returned.
            generator: The source of randomness.

        Returns:
            float32.
        """
        radius = self.df * torch.expm1(-2.0 / self.df * uniform(shape, generator).log())
        angle = 2.0 * math.pi * uniform(shape, generator)
        return (self.scale * radius.sqrt() * angle.cos()).float()
