r"""The root of a product of two log-normal variables (Louizos, Ullrich & Welling 2017, section 4.2).

:math:`z = \sqrt{ab}` with :math:`\log a \sim N(\mu_a, \sigma_a^2)` and :math:`\log b \sim N(\mu_b,
\sigma_b^2)`, independent of each other, so that :math:`\log z \sim N(\frac12(\mu_a + \mu_b),
\frac14(\sigma_a^2 + \sigma_b^2))`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from laconic.bayes.posteriors.gaussian import HELD_LOG_VAR
from laconic.bayes.posteriors.posterior import Noise, Posterior
from laconic.errors import InputError


@dataclass(frozen=True, eq=False)
class LogNormalPair(Posterior):
    r"""Positive scales :math:`z = \sqrt{ab}` with log-normal a and b (Louizos et al. 2017, section 4.2).

    It is a posterior of scales, and of no network's own weight.

    Args:
        a_mean: :math:`\mu_a`.
        a_log_var: :math:`\log\sigma_a^2`, of the same shape.
        b_mean: :math:`\mu_b`.
        b_log_var: :math:`\log\sigma_b^2`.

    Raises:
        InputError: The shapes differ.

    >>> q = LogNormalPair(*torch.tensor([[2.0], [-40.0], [0.0], [-40.0]]))
    >>> [round(m.item(), 4) for m in q.moments()]
    [2.7183, 0.0]
    """

    weight: ClassVar[str | None] = None

    a_mean: Tensor
    a_log_var: Tensor
    b_mean: Tensor
    b_log_var: Tensor

    def __post_init__(self) -> None:
        shapes = [tuple(t.shape) for t in (self.a_mean, self.a_log_var, self.b_mean, self.b_log_var)]
        if len(set(shapes)) > 1:
            raise InputError(
                f"a pair of log-normals needs parameters of one shape, got {shapes}. Cure: a_mean, "
                "a_log_var, b_mean and b_log_var of one shape"
            )

    def log_moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of log z."""
        return 0.5 * (self.a_mean + self.b_mean), 0.25 * (self.a_log_var.exp() + self.b_log_var.exp())

    def moments(self) -> tuple[Tensor, Tensor]:
        r""":math:`E[z] = e^{m + v/2}` and :math:`(e^v - 1)E[z]^2`, m and v the moments of log z."""
        mean, variance = self.log_moments()
        expectation = (mean + 0.5 * variance).exp()
        return expectation, variance.expm1() * expectation.square()

    def log_density(self, values: Tensor) -> Tensor:
        r""":math:`-\frac{(\log z - m)^2}{2v} - \log z - \frac12\log(2\pi v)`; there is none at or below zero.

        The mode is :math:`e^{m - v}`, below the mean :math:`e^{m + v/2}`.
        """
        mean, variance = (t.double() for t in self.log_moments())
        z = values.double()
        log_z = z.clamp_min(torch.finfo(torch.float64).tiny).log()
        found = -0.5 * ((log_z - mean).square() / variance + (2.0 * math.pi * variance).log()) - log_z
        return torch.where(z > 0, found, -torch.inf)

    def rsample(self, noise: Noise) -> Tensor:
        r""":math:`e^{m + \sqrt v\,\epsilon}`; differentiable."""
        mean, variance = self.log_moments()
        return (mean + variance.sqrt() * noise.like(mean)).exp()

    def spread(self) -> list[Tensor]:
        """The two log variances."""
        return [self.a_log_var, self.b_log_var]

    def hold(self, keep: Tensor) -> None:
        """Let the scales outside ``keep`` be next to zero, in place, with next to no noise."""
        with torch.no_grad():
            for mean, log_var in ((self.a_mean, self.a_log_var), (self.b_mean, self.b_log_var)):
                mean.masked_fill_(~keep, -200.0)
                log_var.masked_fill_(~keep, HELD_LOG_VAR)
