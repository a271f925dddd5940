"""Which units stay when a share of them is removed: of each group, or of all groups together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from laconic.errors import InputError
from laconic.records import KeepPlan
from laconic.sparsify.scores.common import UnitScores
from laconic.sparsify.selection.ranking import Ranking, as_plan, check_limits, rankings
from laconic.structure.coupling.groups import Coupling

_ROUNDING = 1e-9  # 0.29 of 100 units are 29, whatever floating point says


def plan_by_ratio(
    scores: Mapping[str, UnitScores],
    coupling: Coupling,
    ratio: float | Mapping[str, float],
    *,
    together: bool = False,
    min_units: int = 1,
    multiple: int = 1,
) -> KeepPlan:
    """Remove the ``ratio`` share of units with the lowest scores: of each group, or of all groups together.

    Each group loses ``floor(ratio * size)`` units, or with ``together`` all groups that many of all their
    units, so far as min_units and multiple allow. ``together`` compares scores of different groups: see
    :func:`laconic.sparsify.scores.groups_each`. A mapping gives each group a share of its own; groups that it
    does not name stay whole.

    Raises InputError for a share outside [0, 1), or for two shares of tied groups.

    >>> import numpy as np
    >>> from laconic.structure import Group
    >>> coupling = Coupling((Group("a:0", 4, ()), Group("b:0", 4, ())))
    >>> scores = {"a:0": np.array([0.1, 4, 2, 3]), "b:0": np.array([0.3, 0.2, 0.4, 9])}
    >>> dict(plan_by_ratio(scores, coupling, 0.5).kept)
    {'a:0': (1, 3), 'b:0': (2, 3)}
    >>> dict(plan_by_ratio(scores, coupling, 0.5, together=True).kept)
    {'a:0': (1, 2, 3), 'b:0': (3,)}
    """
    check_limits(min_units, multiple)
    ranked = rankings(scores, coupling)
    if isinstance(ratio, Mapping):
        if together:
            raise InputError("shares by group cannot be met together. Cure: one share, or together=False")
        shares = _shares(ranked, coupling, ratio)
    else:
        shares = [_checked("every group", ratio)] * len(ranked)
    if together and shares:
        counts = _counts_together(ranked, shares[0], min_units)
    else:
        counts = [r.size - _floor(s * r.size) for r, s in zip(ranked, shares, strict=True)]
    final = [r.allowed(c, min_units, multiple) for r, c in zip(ranked, counts, strict=True)]
    return as_plan(ranked, final)


def _floor(value: float) -> int:
    return math.floor(value + _ROUNDING)


def _checked(name: str, share: float) -> float:
    if not 0 <= share < 1:
        raise InputError(
            f"the share to remove from {name} must lie in [0, 1), got {share}. Cure: a share of 0.5"
        )
    return share


def _shares(ranked: Sequence[Ranking], coupling: Coupling, ratio: Mapping[str, float]) -> list[float]:
    for name in ratio:
        coupling.group(name)
    known = {name for r in ranked for name in r.names}
    for name in set(ratio) - known:
        raise InputError(
            f"group {name!r} is to lose {ratio[name]:.2g} of its units, but has no scores. Cure: score it, "
            "or leave it out of the ratios"
        )
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


def _counts_together(ranked: Sequence[Ranking], ratio: float, min_units: int) -> list[int]:
    """How many units each set keeps when the lowest scores of all groups are removed together."""
    left = _floor(ratio * sum(r.size * len(r.names) for r in ranked))
    counts = [r.size for r in ranked]
    steps = sorted((w / len(r.names), k) for k, r in enumerate(ranked) for w in r.importance)
    for _, k in steps:  # a set's own steps rise, so its worst units go first
        if counts[k] > max(min_units, ranked[k].least) and len(ranked[k].names) <= left:
            counts[k] -= 1
            left -= len(ranked[k].names)
    return counts
