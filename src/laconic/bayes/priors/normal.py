"""The normal prior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from laconic.bayes.priors.checks import check_numbers, check_widths
from laconic.bayes.priors.density import DensityPrior
from laconic.errors import InputError


@dataclass(frozen=True)
class Normal(DensityPrior):
    r"""Independent normals :math:`p(w) = N(\mu_0, \sigma_0^2)`: a proper prior, its KL a code length.

    The prior of the weights in Louizos, Ullrich & Welling 2017, section 4.1, is the standard normal.

    Args:
        mean: :math:`\mu_0`.
        std: :math:`\sigma_0`, above 0.

    Raises:
        InputError: A mean that is not finite, or a standard deviation that is not above 0.

    >>> Normal(std=0.1).improper
    False
    """

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        check_numbers(self, mean=0.0, std=1.0)
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std > 0):
            raise InputError(
                f"a normal prior needs a finite mean and std > 0, got {self.mean} and {self.std}"
                ". Cure: mean=0, std=1"
            )
        check_widths(self, std=1.0)

    def log_density(self, weights: Tensor) -> Tensor:
        r""":math:`\log p(w)` by weight, nats.

        Args:
            weights: Any shape.

        Returns:
            Of that shape.
        """
        constant = math.log(self.std) + 0.5 * math.log(2 * math.pi)
        return -0.5 * ((weights - self.mean) / self.std).square() - constant

    def sample(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Independent draws.

        Args:
            shape: Shape of what is returned.
            generator: The source of randomness.

        Returns:
            float32.
        """
        draws = torch.randn(tuple(shape), generator=generator, device=generator.device)
        return self.mean + self.std * draws
