"""The order in which units are removed by their scores, and what a keep plan must leave.

Whatever selects, a group keeps at least ``min_units`` units (0 empties only groups that may lose all their
units, see ``Coupling.branches``; any other keeps one). Groups that are tied keep equally many (each its own
best). The number kept is rounded up to a ``multiple``. Equal scores are ordered by position, so the same
scores give the same plan. Groups without scores stay whole. Selections:
:mod:`laconic.sparsify.selection.share`, :mod:`laconic.sparsify.selection.limit`,
:mod:`laconic.sparsify.selection.budget`.
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


@dataclass(frozen=True, eq=False)
class Ranking:
    """Tied groups of one size, mostly one group, and the order in which their units are removed.

    ``order[g][k]`` is the unit of group ``names[g]`` that is removed k-th, ``importance[k]`` the sum of the
    scores that are lost with step k, one unit per group. ``least``: how many units must stay in any case.
    """

    names: tuple[str, ...]
    size: int
    order: tuple[tuple[int, ...], ...]
    importance: tuple[float, ...]
    least: int = 1

    def allowed(self, count: int, min_units: int, multiple: int) -> int:
        """How many units stay when ``count`` should."""
        return allowed(self.size, count, max(min_units, self.least), multiple)

    def kept(self, count: int) -> dict[str, tuple[int, ...]]:
        """The best ``count`` units of each group."""
        removed = self.size - count
        return {n: tuple(sorted(units[removed:])) for n, units in zip(self.names, self.order, strict=True)}


def rankings(scores: Mapping[str, UnitScores], coupling: Coupling) -> tuple[Ranking, ...]:
    """The scores as orders of removal, one for each set of tied groups.

    Raises NonFiniteError for a NaN and InputError for scores of another network or of only a part of a tied
    set.
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
        raise InputError(
            f"tied groups {', '.join(names)} have different sizes {sorted(sizes)}. Cure: scores of all units "
            "of each group"
        )
    orders = [np.argsort(scores[n], kind="stable") for n in names]
    importance = np.sum([np.asarray(scores[n])[o] for n, o in zip(names, orders, strict=True)], axis=0)
    order = tuple(tuple(o.tolist()) for o in orders)
    return Ranking(names, sizes.pop(), order, tuple(importance.tolist()))


def allowed(size: int, count: int, min_units: int, multiple: int) -> int:
    """How many of ``size`` units stay when ``count`` should: min_units, then up to a multiple, then all.

    >>> [allowed(10, count, 2, 4) for count in (0, 4, 5, 9)]
    [4, 4, 8, 10]
    """
    return min(size, multiple * math.ceil(max(count, min_units) / multiple))


def check_limits(min_units: int, multiple: int) -> None:
    """Raises InputError for a min_units below 0 or a multiple below 1."""
    if min_units < 0 or multiple < 1:
        raise InputError(
            f"need min_units >= 0 and multiple >= 1, got {min_units} and {multiple}"
            ". Cure: min_units=1, multiple=1"
        )


def as_plan(ranked: Sequence[Ranking], counts: Sequence[int]) -> KeepPlan:
    """The plan that keeps so many units in each group of each ranking."""
    kept: dict[str, tuple[int, ...]] = {}
    sizes: dict[str, int] = {}
    for ranking, count in zip(ranked, counts, strict=True):
        kept |= ranking.kept(count)
        sizes |= dict.fromkeys(ranking.names, ranking.size)
    return KeepPlan(kept, sizes)
