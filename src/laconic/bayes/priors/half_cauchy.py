r"""The half-Cauchy prior of a positive scale, :math:`p(z) = 2 / (\pi k (1 + z^2/k^2))`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from laconic.bayes.priors.checks import check_numbers, check_widths
from laconic.bayes.priors.density import uniform
from laconic.errors import InputError


@dataclass(frozen=True)
class HalfCauchy:
    r"""Half-Cauchy scales :math:`z \sim C^+(0, k)`: a proper prior with a pole of the weights at zero.

    It is taken apart as Louizos, Ullrich & Welling 2017, section 4.2, do: :math:`z = \sqrt{ab}` with

    .. math:: a \sim Gamma(\tfrac12, k^2),\qquad b \sim InverseGamma(\tfrac12, 1)

    (shape and scale). For :math:`\sqrt a = k|n|/\sqrt2` and :math:`\sqrt b = \sqrt2/|n'|` with standard
    normal n and n', and a ratio of these is Cauchy. A normal weight times such a scale has the horseshoe
    prior.

    Args:
        scale: k, the median.

    Raises:
        InputError: A scale that is not above 0.

    >>> HalfCauchy(1e-5).improper
    False
    """

    improper: ClassVar[bool] = False
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_numbers(self, scale=1.0)
        if not 0 < self.scale < math.inf:
            raise InputError(f"a half-Cauchy prior needs a finite scale > 0, got {self.scale}. Cure: scale=1")
        check_widths(self, scale=1.0)

    def log_density(self, scales: Tensor) -> Tensor:
        r""":math:`\log\frac2{\pi k} - \log(1 + z^2/k^2)` by scale, nats; minus infinity below zero.

        Args:
            scales: Any shape.

        Returns:
            Of that shape.
        """
        found = math.log(2 / (math.pi * self.scale)) - torch.log1p((scales / self.scale).square())
        return torch.where(scales >= 0, found, -math.inf)

    def sample(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        r"""Draws by the inverse distribution function, :math:`k\tan(\pi u/2)`.

        Args:
            shape: Shape of what is returned.
            generator: The source of randomness.

        Returns:
            float32, above 0.
        """
        return (self.scale * torch.tan(0.5 * math.pi * uniform(shape, generator))).float()
