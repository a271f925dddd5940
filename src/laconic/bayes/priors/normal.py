"""The normal prior."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from laconic.errors import InputError


@dataclass(frozen=True)
class Normal:
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

    improper: ClassVar[bool] = False
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std > 0):
            raise InputError(
                f"a normal prior needs a finite mean and std > 0, got {self.mean} and {self.std}"
                ". Cure: mean=0, std=1"
            )
