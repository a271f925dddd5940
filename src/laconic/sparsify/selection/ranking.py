"""Which units stay: from scores of groups to a keep plan, by a share or above a limit.

Whatever the way, a group keeps at least ``floor`` units (0 empties only those that may go altogether, see
``Coupling.branches``; any other keeps one), groups that are tied keep equally many (each its own
best), the number kept is rounded up to a ``multiple`` (a kernel's lanes), and equal scores go by position:
the same scores give the same plan. For a budget in bytes or arithmetic see
:mod:`laconic.sparsify.selection.budget`. Groups without scores stay whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from laconic.errors import InputError
from laconic.records import KeepPlan
from laconic.sparsify.scores.common import UnitScores, finite
from laconic.structure.coupling.groups import Coupling, tied_sets

_ROUNDING = 1e-9  # 0.29 of 100 units are 29, whatever floating point says


@dataclass(frozen=True, eq=False)
class Ranking:
    """Tied groups of one size, mostly one group, and the order in which their units go.

    ``going[g][k]`` is the unit of group ``names[g]`` that goes k-th, ``worth[k]`` the sum of the scores that
    go with step k, one unit a group. ``least``: how many must stay whatever is asked for.
    """

    names: tuple[str, ...]
    size: int
    going: tuple[tuple[int, ...], ...]
    worth: tuple[float, ...]
    least: int = 1

    def allowed(self, count: int, floor: int, multiple: int) -> int:
        """How many units stay when ``count`` should."""
        return allowed(self.size, count, max(floor, self.least), multiple)

    def kept(self, count: int) -> dict[str, tuple[int, ...]]:
        """The best ``count`` units of each group."""
        gone = self.size - count
        return {n: tuple(sorted(units[gone:])) for n, units in zip(self.names, self.going, strict=True)}


def rankings(scores: Mapping[str, UnitScores], coupling: Coupling) -> tuple[Ranking, ...]:
    """The scores as orders of going, one for each set of tied groups.

    Raises NonFiniteError for a NaN and InputError for scores of another network or of half a tied set.
    """
    finite(scores, "selection")
    for name, values in scores.items():
        size = coupling.group(name).size
        if np.shape(values) != (size,):
            raise InputError(
                f"group {name!r} has {size} units, its scores have shape {np.shape(values)}. Cure: score the "
                "groups of this network"
            )
    scored = [names for names in tied_sets(coupling) if any(n in scores for n in names)]
    return tuple(
        replace(_ranking(names, scores), least=0 if all(n in coupling.branches for n in names) else 1)
        for names in scored
    )


def _ranking(names: tuple[str, ...], scores: Mapping[str, UnitScores]) -> Ranking:
    missing = [n for n in names if n not in scores]
    if missing:
        raise InputError(
            f"group {missing[0]!r} has no score, but must keep as many units as "
            f"{next(n for n in names if n in scores)!r}. Cure: score both"
        )
    sizes = {len(scores[n]) for n in names}
    if len(sizes) > 1:
        raise InputError(f"tied groups {', '.join(names)} have different sizes {sorted(sizes)}")
    orders = [np.argsort(scores[n], kind="stable") for n in names]
    worth = np.sum([np.asarray(scores[n])[o] for n, o in zip(names, orders, strict=True)], axis=0)
    going = tuple(tuple(o.tolist()) for o in orders)
    return Ranking(names, sizes.pop(), going, tuple(worth.tolist()))


def allowed(size: int, count: int, floor: int, multiple: int) -> int:
    """How many of ``size`` units stay when ``count`` should: floor first, then up to a multiple, then all.

    >>> [allowed(10, count, 2, 4) for count in (0, 4, 5, 9)]
    [4, 4, 8, 10]
    """
    return min(size, multiple * math.ceil(max(count, floor) / multiple))


def check_limits(floor: int, multiple: int) -> None:
    """Raises InputError for a floor below 0 or a multiple below 1."""
    if floor < 0 or multiple < 1:
        raise InputError(f"need floor >= 0 and multiple >= 1, got {floor} and {multiple}")


def as_plan(ranked: Sequence[Ranking], counts: Sequence[int]) -> KeepPlan:
    """The plan that keeps so many units in each group of each ranking."""
    kept: dict[str, tuple[int, ...]] = {}
    sizes: dict[str, int] = {}
    for ranking, count in zip(ranked, counts, strict=True):
        kept |= ranking.kept(count)
        sizes |= dict.fromkeys(ranking.names, ranking.size)
    return KeepPlan(kept, sizes)


# --- by share -----------------------------------------------------------------------------------------


def plan_by_ratio(
    scores: Mapping[str, UnitScores],
    coupling: Coupling,
    ratio: float | Mapping[str, float],
    *,
    together: bool = False,
    floor: int = 1,
    multiple: int = 1,
) -> KeepPlan:
    """Remove the ``ratio`` share of units with the lowest scores: of each group, or of all groups together.

    Each group loses ``floor(ratio * size)`` units, or with ``together`` all groups that many of all their
    units, so far as floor and multiple allow. ``together`` compares scores of different groups: see
    :func:`laconic.sparsify.scores.groups_each`. A mapping gives each group a share of its own; groups that it
    does not name stay whole.

    Raises InputError for a share outside [0, 1), or for two shares of tied groups.

    >>> from laconic.structure import Group
    >>> coupling = Coupling((Group("a:0", 4, ()), Group("b:0", 4, ())))
    >>> scores = {"a:0": np.array([0.1, 4, 2, 3]), "b:0": np.array([0.3, 0.2, 0.4, 9])}
    >>> dict(plan_by_ratio(scores, coupling, 0.5).kept)
    {'a:0': (1, 3), 'b:0': (2, 3)}
    >>> dict(plan_by_ratio(scores, coupling, 0.5, together=True).kept)
    {'a:0': (1, 2, 3), 'b:0': (3,)}
    """
    check_limits(floor, multiple)
    ranked = rankings(scores, coupling)
    if isinstance(ratio, Mapping):
        if together:
            raise InputError("shares by group cannot be met together. Cure: one share, or together=False")
        shares = _shares(ranked, coupling, ratio)
    else:
        shares = [_checked("every group", ratio)] * len(ranked)
    if together and shares:
        counts = _counts_together(ranked, shares[0], floor)
    else:
        counts = [r.size - _floor(s * r.size) for r, s in zip(ranked, shares, strict=True)]
    final = [r.allowed(c, floor, multiple) for r, c in zip(ranked, counts, strict=True)]
    return as_plan(ranked, final)


def _floor(value: float) -> int:
    return math.floor(value + _ROUNDING)


def _checked(name: str, share: float) -> float:
    if not 0 <= share < 1:
        raise InputError(f"the share to remove from {name} must lie in [0, 1), got {share}")
    return share


def _shares(ranked: Sequence[Ranking], coupling: Coupling, ratio: Mapping[str, float]) -> list[float]:
    for name in ratio:
        coupling.group(name)
    known = {name for r in ranked for name in r.names}
    for name in set(ratio) - known:
        raise InputError(f"group {name!r} is to lose {ratio[name]:.2g} of its units, but has no scores")
    shares = []
    for ranking in ranked:
        given = {_checked(repr(n), ratio.get(n, 0.0)) for n in ranking.names}
        if len(given) > 1:
            raise InputError(
                f"groups {', '.join(ranking.names)} must keep equally many units, but are to lose shares "
                f"{sorted(given)}. Cure: give them the same share"
            )
        shares.append(given.pop())
    return shares


def _counts_together(ranked: Sequence[Ranking], ratio: float, floor: int) -> list[int]:
    """How many units each set keeps when the worst of all go, whichever group they are of."""
    left = _floor(ratio * sum(r.size * len(r.names) for r in ranked))
    counts = [r.size for r in ranked]
    steps = sorted((w / len(r.names), k) for k, r in enumerate(ranked) for w in r.worth)
    for _, k in steps:  # a set's own steps rise, so its worst units go first
        if counts[k] > max(floor, ranked[k].least) and len(ranked[k].names) <= left:
            counts[k] -= 1
            left -= len(ranked[k].names)
    return counts


# --- above a limit -------------------------------------------------------------------------------------


def plan_above(
    scores: Mapping[str, UnitScores],
    coupling: Coupling,
    limit: float,
    *,
    floor: int = 1,
    multiple: int = 1,
) -> KeepPlan:
    """Keep the units whose score is above a limit; tied groups keep as many as the one with most of them.

    With :func:`laconic.sparsify.scores.snr_groups` and limit -3: units whose noise dominates (log alpha >= 3)
    are removed.

    >>> from laconic.structure import Group
    >>> coupling = Coupling((Group("a:0", 3, ()),))
    >>> plan_above({"a:0": np.array([5.0, -4.0, 0.0])}, coupling, -3.0).kept["a:0"]
    (0, 2)
    """
    check_limits(floor, multiple)
    if not math.isfinite(limit):
        raise InputError(f"the limit on scores must be finite, got {limit}")
    ranked = rankings(scores, coupling)
    counts = [max(int((np.asarray(scores[n]) > limit).sum()) for n in r.names) for r in ranked]
    final = [r.allowed(c, floor, multiple) for r, c in zip(ranked, counts, strict=True)]
    return as_plan(ranked, final)
