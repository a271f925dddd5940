r"""The log-uniform prior :math:`p(|w|) \propto 1/|w|` (Kingma et al. 2015; Molchanov et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from laconic.errors import InputError


@dataclass(frozen=True)
class LogUniform:
    r"""A flat prior on :math:`\log|w|`. It has no parameters and no normaliser (``improper``).

    Its KL is known only up to a constant, here chosen so that it goes to 0 as the noise swamps the mean;
    it is therefore no code length. ``exact`` takes the Poisson-digamma series in place of Molchanov's
    sigmoid fit (up to the constant within 0.008 nat of it, for log alpha in [-8, 8]). ``clamp`` bounds log
    alpha first, as published code does with (-8, 8); the gradient is zero outside. None keeps it everywhere.

    >>> LogUniform(clamp=(-8.0, 8.0)).improper
    True
    """

    improper: ClassVar[bool] = True
    exact: bool = False
    clamp: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.clamp is not None and not self.clamp[0] < self.clamp[1]:
            raise InputError(f"clamp must be (low, high) with low < high, got {self.clamp}")
