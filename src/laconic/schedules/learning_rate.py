"""Learning-rate schedules as settings: frozen, so that a run's record holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from laconic.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch.optim.lr_scheduler import LRScheduler


@dataclass(frozen=True)
class LinearDecay:
    """A learning rate that is constant for the share ``flat`` of training, then falls linearly to 0.

    Args:
        flat: Share of training at the full rate, in [0, 1].
        warmup: Share of training in which the rate rises from 0, in [0, 1).

    >>> [LinearDecay(0.5).factor(p) for p in (0.0, 0.5, 0.75, 1.0)]
    [1.0, 1.0, 0.5, 0.0]
    >>> [LinearDecay(0.5, 0.2).factor(p) for p in (0.0, 0.1, 0.2)]
    [0.0, 0.5, 1.0]
    """

    flat: float = 0.5
    warmup: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.flat <= 1 or not 0 <= self.warmup < 1:
            raise InputError(
                f"need 0 <= flat <= 1 and 0 <= warmup < 1, got {self.flat}, {self.warmup}"
                ". Cure: flat=0.5, warmup=0"
            )

    def factor(self, progress: float) -> float:
        """The rate at a share of training, as a share of the full one."""
        rising = min(1.0, progress / self.warmup) if self.warmup else 1.0
        constant = progress < self.flat or self.flat >= 1
        return rising * (1.0 if constant else max(0.0, (1.0 - progress) / (1.0 - self.flat)))

    def __call__(self, optimizer: torch.optim.Optimizer, steps: int) -> LRScheduler:
        """Torch's scheduler, to be stepped ``steps`` times."""
        from torch.optim.lr_scheduler import LambdaLR  # schedules are settings, which need no torch

        return LambdaLR(optimizer, lambda k: self.factor(k / steps))
