"""How much is gone after each step: at once, in equal steps, by equal factors, or fast first (cubic).

A schedule is a function of progress in (0, 1] and the final share that says the share gone by then.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from laconic.errors import InputError

Schedule = Callable[[float, float], float]


def cubic_sparsity(progress: float, final: float, *, start: float = 0.0, end: float = 1.0) -> float:
    """Share of zeros at ``progress`` in [0, 1]: final * (1 - (1 - t)^3) with t running from start to end.

    Source: Zhu & Gupta 2017, eq. 1 with initial sparsity 0.

    >>> [round(cubic_sparsity(p, 0.9), 4) for p in (0.0, 0.5, 1.0)]
    [0.0, 0.7875, 0.9]
    """
    if not 0 <= final < 1 or not 0 <= start < end <= 1:
        raise InputError(f"need 0 <= final < 1 and 0 <= start < end <= 1, got {final}, {start}, {end}")
    t = min(1.0, max(0.0, (progress - start) / (end - start)))
    return final * (1.0 - (1.0 - t) ** 3)


def one_shot(progress: float, final: float) -> float:
    """All at the first step."""
    return final


def linear(progress: float, final: float) -> float:
    """Equal steps: the same number of units each time."""
    return final * progress


def geometric(progress: float, final: float) -> float:
    """The same share of what is left each time: 1 - (1 - final)^progress.

    Source: Frankle & Carbin, The Lottery Ticket Hypothesis, ICLR 2019, section 2.
    """
    return 1.0 - math.pow(1.0 - final, progress)


def cubic(progress: float, final: float) -> float:
    """Fast first, slow at the end: final * (1 - (1 - progress)^3). Source: Zhu & Gupta 2017, eq. 1."""
    return cubic_sparsity(progress, final)


def steps(total: float, n: int, kind: Schedule = linear) -> tuple[float, ...]:
    """The share gone after each of ``n`` steps, rising to exactly ``total``.

    Raises InputError for a total outside [0, 1) or fewer than one step.

    >>> steps(0.8, 4), [round(s, 3) for s in steps(0.8, 4, cubic)]
    ((0.2, 0.4, 0.6, 0.8), [0.463, 0.7, 0.787, 0.8])
    >>> steps(0.8, 1, one_shot)
    (0.8,)
    """
    if not 0 <= total < 1 or n < 1:
        raise InputError(f"need a total share in [0, 1) and at least one step, got {total} and {n}")
    return (*(round(kind(k / n, total), 12) for k in range(1, n)), total)


def of_what_is_left(shares: tuple[float, ...]) -> tuple[float, ...]:
    """What share of the units still there each step removes, for who shrinks between steps.

    A group of a few units rounds at every step: there, plan on the whole network with the shares themselves.

    Raises InputError for shares that fall or reach 1.

    >>> of_what_is_left((0.5, 0.75))
    (0.5, 0.5)
    """
    if any(not 0 <= a <= b < 1 for a, b in zip((0.0, *shares), shares, strict=False)):
        raise InputError(f"the shares gone must rise within [0, 1), got {shares}")
    return tuple(1.0 - (1.0 - b) / (1.0 - a) for a, b in zip((0.0, *shares), shares, strict=False))
