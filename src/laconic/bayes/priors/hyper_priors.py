r"""Hyper-priors of what is learned of a prior, which keep it from collapsing (Ullrich et al. 2017)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from laconic.bayes.priors.checks import check_numbers
from laconic.errors import InputError


@dataclass(frozen=True)
class Gamma:
    r"""A Gamma density of precisions: :math:`p(\lambda) \propto \lambda^{a-1} e^{-b\lambda}`.

    With n weights in a component of squared deviations S, the likeliest precision is
    :math:`(a - 1 + n/2) / (b + S/2)`: finite even where all weights sit on the mean. It is the inverse Gamma
    of the variance.

    Args:
        shape: a, above 1.
        rate: b, above 0; the likeliest precision before any weight is (a - 1) / b.

    Raises:
        InputError: A number outside these bounds.

    >>> round(Gamma(250.0, 0.1).std, 4)  # the tutorial's: components about 0.02 wide
    0.02
    """

    shape: float
    rate: float

    def __post_init__(self) -> None:
        check_numbers(self, shape=250.0, rate=0.1)
        if not (1 < self.shape < math.inf and 0 < self.rate < math.inf):
            raise InputError(
                f"a Gamma hyper-prior needs shape > 1 and rate > 0, got {self.shape} and {self.rate}. "
                "Cure: (250, 0.1), which holds components about 0.02 wide"
            )

    @property
    def std(self) -> float:
        """The standard deviation of a component at the likeliest precision."""
        return math.sqrt(self.rate / (self.shape - 1))

    def nats(self, log_precisions: Tensor) -> Tensor:
        r""":math:`\sum (1 - a)\log\lambda + b\lambda`, minus its value at the mode; a scalar."""
        mode = (self.shape - 1) / self.rate
        least = (1 - self.shape) * math.log(mode) + self.shape - 1
        each = (1 - self.shape) * log_precisions + self.rate * log_precisions.exp()
        return (each - least).sum()


@dataclass(frozen=True)
class Beta:
    r"""A Beta density of a share: :math:`p(\pi) \propto \pi^{a-1}(1 - \pi)^{b-1}`.

    Args:
        a: Above 1; the likeliest share before any weight is (a - 1) / (a + b - 2).
        b: Above 1.

    Raises:
        InputError: A number outside these bounds.

    >>> Beta(9.0, 2.0).mode
    0.8888888888888888
    """

    a: float
    b: float

    def __post_init__(self) -> None:
        check_numbers(self, a=99.0, b=2.0)
        if not (1 < self.a < math.inf and 1 < self.b < math.inf):
            raise InputError(
                f"a Beta hyper-prior needs both numbers above 1, got {self.a} and {self.b}. Cure: (99, 2)"
            )

    @property
    def mode(self) -> float:
        """The likeliest share."""
        return (self.a - 1) / (self.a + self.b - 2)

    def nats(self, logit: Tensor) -> Tensor:
        r""":math:`(1 - a)\log\pi + (1 - b)\log(1 - \pi)`, minus its value at the mode; of a share's logit."""
        log = torch.nn.functional.logsigmoid
        least = (1 - self.a) * math.log(self.mode) + (1 - self.b) * math.log(1 - self.mode)
        return ((1 - self.a) * log(logit) + (1 - self.b) * log(-logit) - least).sum()
