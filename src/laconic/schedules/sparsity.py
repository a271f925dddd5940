"""Sparsity schedules: which share is removed by which point of training.

A schedule is a function of the share of training that is done, in [0, 1], and of the final share. It returns
the share that is removed by then. Between two cuts training goes on, which is the fine-tuning. The classes
here are frozen dataclasses; ``start`` and ``end`` are shares of training.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from laconic.errors import InputError

Schedule = Callable[[float, float], float]

_ROUNDING = 1e-9  # 0.3 / 0.1 are three rounds, whatever floating point says
_CHECKED = 64  # at how many points a schedule is checked before it is used


@dataclass(frozen=True)
class OneShot:
    """All at once when the share ``at`` of training is done; the rest of training is fine-tuning.

    Source: Li et al., Pruning Filters, ICLR 2017, section 3.4 (prune once and retrain).

    Args:
        at: Share of training after which all is removed, in [0, 1).

    Raises:
        InputError: ``at`` is outside [0, 1).

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
        """The share removed."""
        return final if progress >= self.at - _ROUNDING else 0.0


@dataclass(frozen=True)
class Iterative:
    r"""``rounds`` equal cuts at equal distances between ``start`` and ``end``, the last of them at ``end``.

    .. math:: removed(p) = final \cdot \lfloor k t \rfloor / k, \quad t = (p - start) / (end - start)

    for k rounds. Source: Han et al., Learning both Weights and Connections, NIPS 2015, section 3.4 (iterative
    pruning: cut, retrain, cut again).

    Args:
        rounds: Number of cuts k, >= 1.
        start: Share of training at which the first round begins, in [0, 1).
        end: Share of training at which the last cut is made, in (start, 1].

    Raises:
        InputError: No round, or not 0 <= start < end <= 1.

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
        """The share removed."""
        done = self.rounds * (progress - self.start) / (self.end - self.start)
        return final * min(self.rounds, max(0, math.floor(done + _ROUNDING))) / self.rounds


@dataclass(frozen=True)
class Linear:
    r"""The same share of the whole in equal times between ``start`` and ``end``.

    .. math:: removed(p) = final \cdot t, \quad t = (p - start) / (end - start)

    Args:
        start: Share of training from which weights or units are removed, in [0, 1).
        end: Share of training at which the final share is reached, in (start, 1].

    Raises:
        InputError: Not 0 <= start < end <= 1.

    >>> [round(Linear(0.0, 0.5)(p, 0.8), 3) for p in (0.0, 0.25, 0.5, 1.0)]
    [0.0, 0.4, 0.8, 0.8]
    """

    start: float = 0.0
    end: float = 0.6

    def __post_init__(self) -> None:
        _check_span(self.start, self.end)

    def __call__(self, progress: float, final: float) -> float:
        """The share removed."""
        return final * _within(progress, self.start, self.end)


@dataclass(frozen=True)
class Geometric:
    r"""The same share of what is left in equal times between ``start`` and ``end``.

    .. math:: removed(p) = 1 - (1 - final)^t, \quad t = (p - start) / (end - start)

    Source: Frankle & Carbin, The Lottery Ticket Hypothesis, ICLR 2019, section 2.

    Args:
        start: Share of training from which weights or units are removed, in [0, 1).
        end: Share of training at which the final share is reached, in (start, 1].

    Raises:
        InputError: Not 0 <= start < end <= 1.

    >>> [round(Geometric(0.0, 0.5)(p, 0.75), 3) for p in (0.0, 0.25, 0.5, 1.0)]
    [0.0, 0.5, 0.75, 0.75]
    """

    start: float = 0.0
    end: float = 0.6

    def __post_init__(self) -> None:
        _check_span(self.start, self.end)

    def __call__(self, progress: float, final: float) -> float:
        """The share removed."""
        return 1.0 - math.pow(1.0 - final, _within(progress, self.start, self.end))


@dataclass(frozen=True)
class Cubic:
    r"""Fast at first and slow at the end, between ``start`` and ``end``.

    .. math:: removed(p) = final \cdot (1 - (1 - t)^3), \quad t = (p - start) / (end - start)

    Source: Zhu & Gupta, To prune, or not to prune, 2017, eq. 1 with initial sparsity 0.

    Args:
        start: Share of training from which weights or units are removed, in [0, 1).
        end: Share of training at which the final share is reached, in (start, 1].

    Raises:
        InputError: Not 0 <= start < end <= 1.

    >>> [round(Cubic(0.0, 0.5)(p, 0.8), 3) for p in (0.0, 0.25, 0.5, 1.0)]
    [0.0, 0.7, 0.8, 0.8]
    """

    start: float = 0.0
    end: float = 0.6

    def __post_init__(self) -> None:
        _check_span(self.start, self.end)

    def __call__(self, progress: float, final: float) -> float:
        """The share removed."""
        return final * (1.0 - (1.0 - _within(progress, self.start, self.end)) ** 3)


def _check_span(start: float, end: float) -> None:
    if not 0 <= start < end <= 1:
        raise InputError(
            f"need 0 <= start < end <= 1 as shares of training, got {start} and {end}. Cure: start=0, end=0.6"
        )


def _within(progress: float, start: float, end: float) -> float:
    """Where progress stands between start and end, in [0, 1]."""
    return min(1.0, max(0.0, (progress - start) / (end - start)))


# --- schedules in use -----------------------------------------------------------------------------


def removed_share(schedule: Schedule, progress: float, final: float) -> float:
    """What a schedule says, exactly ``final`` where it differs by rounding only.

    Args:
        schedule: A function of (share of training done, final share).
        progress: Share of training done; what lies beyond 1 counts as 1.
        final: The share that is removed in the end.

    Returns:
        The share that is removed at this point.

    >>> removed_share(lambda progress, final: progress * final, 2.0, 0.9)
    0.9
    """
    share = schedule(min(1.0, progress), final)
    return final if abs(share - final) < _ROUNDING else share


def check_schedule(schedule: Schedule, final: float) -> None:
    """Refuse what is no schedule, or does not rise from somewhere in [0, final] to exactly ``final``.

    Args:
        schedule: A function of (share of training done, final share).
        final: The share that is removed in the end, in [0, 1).

    Raises:
        InputError: No function, or a share that falls, leaves [0, final] or does not end at ``final``; the
            message says at which share of training.

    >>> check_schedule(Iterative(3), 0.9)
    """
    if not callable(schedule):
        raise InputError(
            f"a schedule is a function of (share of training done, final share), got {schedule!r}. "
            "Cure: OneShot(), Iterative() or Cubic()"
        )
    before = 0.0
    for k in range(_CHECKED + 1):
        now = removed_share(schedule, k / _CHECKED, final)
        if not before <= now <= final:
            raise InputError(
                f"schedule {schedule!r} says that {now} is removed when {k / _CHECKED:.3g} of training is "
                f"done, which must lie between {before} (removed before) and {final}. Cure: one that rises "
                "to its end"
            )
        before = now
    if before != final:
        raise InputError(
            f"schedule {schedule!r} ends with {before} removed, not {final}. Cure: one that reaches its end"
        )


def steps(total: float, n: int, schedule: Schedule = Linear(0.0, 1.0)) -> tuple[float, ...]:
    """The share removed after each of ``n`` steps, rising to exactly ``total``.

    Args:
        total: Share removed after the last step, in [0, 1).
        n: Number of steps, >= 1.
        schedule: The share removed by each point of training.

    Returns:
        n shares of the whole.

    Raises:
        InputError: A total outside [0, 1), or no step.

    >>> steps(0.8, 4), [round(s, 3) for s in steps(0.8, 4, Cubic(end=1.0))]
    ((0.2, 0.4, 0.6, 0.8), [0.463, 0.7, 0.787, 0.8])
    """
    if not 0 <= total < 1 or n < 1:
        raise InputError(
            f"need a total share in [0, 1) and at least one step, got {total} and {n}. Cure: total=0.8, n=4"
        )
    return (*(round(schedule(k / n, total), 12) for k in range(1, n)), total)


def of_what_is_left(shares: tuple[float, ...]) -> tuple[float, ...]:
    """The share of the units still there that each step removes, for a network that shrinks between steps.

    In a group of a few units the counts are rounded at every step; for such groups plan on the whole network
    with ``shares`` themselves.

    Args:
        shares: Shares of the whole removed after each step (:func:`steps`), rising, in [0, 1).

    Returns:
        As many shares of what is left.

    Raises:
        InputError: Shares that fall, or reach 1.

    >>> of_what_is_left((0.5, 0.75))
    (0.5, 0.5)
    """
    if any(not 0 <= a <= b < 1 for a, b in zip((0.0, *shares), shares, strict=False)):
        raise InputError(f"the shares removed must rise within [0, 1), got {shares}. Cure: (0.5, 0.75)")
    return tuple(1.0 - (1.0 - b) / (1.0 - a) for a, b in zip((0.0, *shares), shares, strict=False))
