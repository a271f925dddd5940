"""When in training how much is gone: at one moment, in equal rounds, or fast first (cubic).

A timetable is a frozen dataclass that is a :data:`laconic.schedules.steps.Schedule` over all of training:
a function of the share of training done, in [0, 1], and of the final share, that says the share gone by then.
What lies between two cuts is fine-tuning: training simply goes on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from laconic.errors import InputError
from laconic.schedules.steps import Schedule, cubic_sparsity

_ROUNDING = 1e-9  # 0.3 / 0.1 are three rounds, whatever floating point says
_LOOKS = 64  # where a schedule is looked at before it is trusted


@dataclass(frozen=True)
class OneShot:
    """All at once when the share ``at`` of training is done; the rest of training is fine-tuning.

    Source: Li et al., Pruning Filters, ICLR 2017, section 3.4 (prune once and retrain).

    >>> [OneShot(0.2)(p, 0.7) for p in (0.0, 0.1, 0.2, 1.0)]
    [0.0, 0.0, 0.7, 0.7]
    """

    at: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.at < 1:
            raise InputError(
                f"at is a share of training in [0, 1), got {self.at}. Cure: at=0.1, so that it is fine-tuned"
            )

    def __call__(self, progress: float, final: float) -> float:
        """Share gone."""
        return final if progress >= self.at - _ROUNDING else 0.0


@dataclass(frozen=True)
class Iterative:
    r"""``rounds`` equal cuts at equal distances between ``start`` and ``end``, the last of them at ``end``.

    .. math:: gone(p) = final \cdot \lfloor k t \rfloor / k, \quad t = (p - start) / (end - start)

    for k rounds. Source: Han et al., Learning both Weights and Connections, NIPS 2015, section 3.4 (iterative
    pruning: cut, retrain, cut again).

    >>> [round(Iterative(2, end=0.6)(p, 0.8), 3) for p in (0.0, 0.29, 0.3, 0.59, 0.6, 1.0)]
    [0.0, 0.0, 0.4, 0.4, 0.8, 0.8]
    """

    rounds: int = 5
    start: float = 0.0
    end: float = 0.6

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise InputError(f"rounds must be positive, got {self.rounds}. Cure: rounds=5")
        _check_span(self.start, self.end)

    def __call__(self, progress: float, final: float) -> float:
        """Share gone."""
        done = self.rounds * (progress - self.start) / (self.end - self.start)
        return final * min(self.rounds, max(0, math.floor(done + _ROUNDING))) / self.rounds


@dataclass(frozen=True)
class Cubic:
    """Fast first, slow at the end, between ``start`` and ``end``. Source: Zhu & Gupta 2017, eq. 1.

    >>> [round(Cubic(0.0, 0.5)(p, 0.8), 3) for p in (0.0, 0.25, 0.5, 1.0)]
    [0.0, 0.7, 0.8, 0.8]
    """

    start: float = 0.0
    end: float = 0.6

    def __post_init__(self) -> None:
        _check_span(self.start, self.end)

    def __call__(self, progress: float, final: float) -> float:
        """Share gone."""
        return cubic_sparsity(progress, final, start=self.start, end=self.end)


def _check_span(start: float, end: float) -> None:
    if not 0 <= start < end <= 1:
        raise InputError(f"need 0 <= start < end <= 1 as shares of training, got {start} and {end}")


def share_gone(schedule: Schedule, progress: float, final: float) -> float:
    """What a schedule says, exactly ``final`` where it is so but for rounding; after training all is gone."""
    gone = schedule(min(1.0, progress), final)
    return final if abs(gone - final) < _ROUNDING else gone


def check_schedule(schedule: Schedule, final: float) -> None:
    """Refuse what is no schedule, or does not rise from somewhere in [0, final] to exactly ``final``.

    Raises InputError that says where it goes wrong.

    >>> check_schedule(Iterative(3), 0.9)
    """
    if not callable(schedule):
        raise InputError(
            f"a schedule is a function of (share of training done, final share), got {schedule!r}. "
            "Cure: OneShot(), Iterative() or Cubic()"
        )
    gone = 0.0
    for k in range(_LOOKS + 1):
        now = share_gone(schedule, k / _LOOKS, final)
        if not gone <= now <= final:
            raise InputError(
                f"schedule {schedule!r} says that {now} is gone when {k / _LOOKS:.3g} of training is done, "
                f"which must lie between {gone} (gone before) and {final}. Cure: one that rises to its end"
            )
        gone = now
    if gone != final:
        raise InputError(
            f"schedule {schedule!r} ends with {gone} gone, not {final}. Cure: one that reaches its end"
        )
