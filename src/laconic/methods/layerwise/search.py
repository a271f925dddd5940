"""The price is found by a bounded number of trials: bisection on its logarithm, led by what was measured.

A higher price gives fewer bytes and a larger divergence. Under a limit of the divergence or of the metric the
highest price that keeps it is wanted, under a limit of the bytes the lowest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from laconic.progress import steps


class Priced(Protocol):
    """What a trial is known by here."""

    @property
    def price(self) -> float:
        """Nats of distortion for one nat of rate."""


T = TypeVar("T", bound=Priced)
LIMITS = (1e-14, 1e6)
"""Prices beyond which no network changes any more."""
GROW, SHRINK = math.log(3.0), math.log(64.0)
"""Least and largest step of the price's logarithm while no bracket is known."""
CLOSE = 0.05
"""Width of a bracket, in the price's logarithm, that is not halved any more: about 0.03 bits a weight."""


@dataclass(frozen=True)
class Limit(Generic[T]):
    r"""What is asked for, as a function of a trial that must not be above 0.

    Args:
        excess: Above 0 where the trial does not meet the limit; a logarithm of a ratio, where it is one.
        rises: Whether a higher price makes it larger (the divergence) or smaller (the bytes).
        slack: An excess from ``-slack`` to 0 is close enough to end the search.
        guided: Whether the size of the excess tells how far to go, or its sign alone.
    """

    excess: Callable[[T], float]
    rises: bool = True
    slack: float = 0.1
    guided: bool = True


@dataclass(frozen=True, eq=False)
class Found(Generic[T]):
    """The result of a search.

    Args:
        best: The trial that meets the limit with the wanted price; where none does, the nearest to it and,
            of several that are as near, that of the lowest price, which changes the network least.
        met: Whether it meets the limit.
        trials: All trials, in order.
    """

    best: T
    met: bool
    trials: tuple[T, ...]


def find_price(
    attempt: Callable[[float], T],
    start: float | None,
    limit: Limit[T],
    most: int,
    known: Sequence[T] = (),
    grow: float = GROW,
    release: Callable[[T], None] = lambda trial: None,
) -> Found[T]:
    """Search the price.

    Args:
        attempt: Makes the trial of a price.
        start: The first price; None: trials are known, and say it.
        limit: What is asked for.
        most: Trials, at least 1.
        known: Trials of an earlier search, from which this one goes on.
        grow: Least step of the price's logarithm while no bracket is known.
        release: Called after each trial for those that are not the best so far, which may drop what only the
            best one needs.

    Returns:
        The trial that meets the limit best, and whether it does, with all trials, the known ones first.

    >>> from types import SimpleNamespace
    >>> limit = Limit(lambda trial: math.log(trial.price / 0.02), slack=0.01)
    >>> found = find_price(lambda price: SimpleNamespace(price=price), 1.0, limit, 12)
    >>> found.met, 0.0195 < found.best.price <= 0.02
    (True, True)
    """
    sign = 1.0 if limit.rises else -1.0
    # log price, excess (rising with it), trial
    seen = [(math.log(trial.price), sign * limit.excess(trial), trial) for trial in known]
    following = _next(seen, limit.guided, grow) if start is None else math.log(_within(start))
    with steps("searching the price", most) as advance:
        for _ in range(most):
            if following is None:
                break
            price = math.exp(following)
            trial = attempt(price)
            excess = limit.excess(trial)
            seen.append((math.log(price), sign * excess, trial))
            leading = _best(seen, sign)[0]
            for _, _, other in seen:
                if other is not leading:
                    release(other)
            advance(f"price {price:.3g}")
            if -limit.slack <= excess <= 0 and limit.guided:
                break
            following = _next(seen, limit.guided, grow)
    return Found(*_best(seen, sign), tuple(t for _, _, t in seen))


def _best(seen: list[tuple[float, float, T]], sign: float) -> tuple[T, bool]:
    """The trial that meets the limit with the wanted price, or is nearest to it, and whether it meets it."""
    good = [(x, t) for x, f, t in seen if sign * f <= 0]
    if good:
        return max(good, key=lambda pair: sign * pair[0])[1], True
    return min(seen, key=lambda row: (sign * row[1], row[0]))[2], False


def _within(price: float) -> float:
    return min(max(price, LIMITS[0]), LIMITS[1])


def _next(seen: list[tuple[float, float, T]], guided: bool, grow: float) -> float | None:
    """The logarithm of the next price; None where the bracket is closed or the limits are reached."""
    lowest, highest = (math.log(x) for x in LIMITS)
    below = max((row for row in seen if row[1] <= 0), key=lambda row: row[0], default=None)
    above = min((row for row in seen if row[1] > 0), key=lambda row: row[0], default=None)
    if below is None or above is None:
        x, f, _ = min(seen, key=lambda row: row[0]) if below is None else below
        size = min(max(abs(f) / _slope(seen), grow), SHRINK) if guided and math.isfinite(f) else SHRINK / 2
        same = len(seen) > 1 and seen[-1][1] == seen[-2][1]
        if guided and same and above is None and math.isfinite(f):
            return None  # no higher price changes anything any more; lower ones do
        following = x - size if below is None else x + size
        return None if following < lowest - 1e-9 or following > highest + 1e-9 else following
    (a, fa, _), (b, fb, _) = below, above
    if not a < b:  # not monotone: a higher price met the limit, so go on from there
        b = min((x for x, f, _ in seen if f > 0 and x > a), default=a + GROW)
        fb = math.inf
    if b - a < CLOSE:
        return None
    share = 0.5
    if guided and math.isfinite(fa) and math.isfinite(fb) and fb > fa:
        share = min(max(-fa / (fb - fa), 0.1), 0.9)
    return a + share * (b - a)


def _slope(seen: list[tuple[float, float, T]]) -> float:
    """How fast the excess rises with the price's logarithm: by the last two trials, at most 1."""
    if len(seen) < 2:
        return 1.0
    (a, fa, _), (b, fb, _) = seen[-2:]
    slope = (fb - fa) / (b - a) if a != b else 1.0
    return min(max(slope, 0.05), 1.0) if math.isfinite(slope) else 1.0
