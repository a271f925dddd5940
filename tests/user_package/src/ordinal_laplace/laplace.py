r"""The Laplace prior :math:`p(w) = \frac1{2b} e^{-|w|/b}`, and its KL from a Gaussian posterior."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from laconic.bayes import Gaussian, register_kl
from laconic.errors import InputError


@dataclass(frozen=True)
class Laplace:
    """Independent Laplace distributions around zero: a proper prior, its KL is a code length.

    Args:
        scale: b, the mean of |w|, > 0.

    >>> Laplace(0.1).improper
    False
    """

    improper: ClassVar[bool] = False
    scale: float = 0.05

    def __post_init__(self) -> None:
        if not (self.scale > 0 and math.isfinite(self.scale)):
            raise InputError(f"a Laplace prior needs a scale > 0, got {self.scale}")


@register_kl(Gaussian, Laplace)
def gaussian_laplace(q: Gaussian, p: Laplace) -> Tensor:
    r"""KL by weight, nats: :math:`\log\frac{2b}{\sigma\sqrt{2\pi e}} + E|w| / b`.

    .. math::
        E|w| = \sigma\sqrt{2/\pi}\, e^{-\theta^2 / 2\sigma^2} + \theta\, \mathrm{erf}(\theta / \sigma\sqrt2)

    Source: the mean of the folded normal distribution (Leone, Nelson & Nottingham 1961).
    """
    ratio = q.mean / (q.std * math.sqrt(2))
    size = q.std * math.sqrt(2 / math.pi) * torch.exp(-ratio.square()) + q.mean * torch.erf(ratio)
    entropy = 0.5 * (math.log(2 * math.pi) + 1 + q.log_var)
    return math.log(2 * p.scale) - entropy + size / p.scale
