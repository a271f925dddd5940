"""Warm-up: how much a penalty counts as training begins."""

from __future__ import annotations

import math
from dataclasses import dataclass

from laconic.errors import InputError


@dataclass(frozen=True)
class WarmUp:
    """The KL's factor: 0 until ``start``, then linearly to 1 at ``end``.

    Args:
        start: Until when the factor is 0, >= 0, in the unit of ``progress`` (epochs in all methods here).
        end: From when the factor is 1, >= start, in the same unit.

    Raises:
        InputError: Not 0 <= start <= end, or not finite.

    >>> [WarmUp(5, 15).factor(t) for t in (0, 5, 10, 15, 99)]
    [0.0, 0.0, 0.5, 1.0, 1.0]
    """

    start: float = 0.0
    end: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and math.isfinite(self.end) and 0 <= self.start <= self.end):
            raise InputError(
                f"a warm-up needs 0 <= start <= end, got {self.start} and {self.end}. Cure: end=5"
            )

    def factor(self, progress: float) -> float:
        """The factor at ``progress``, in [0, 1]."""
        if progress >= self.end:
            return 1.0
        if progress <= self.start:
            return 0.0
        return (progress - self.start) / (self.end - self.start)
