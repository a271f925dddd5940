"""Which units stay by a limit: units whose score is above it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from laconic.errors import InputError
from laconic.records import KeepPlan
from laconic.sparsify.scores.common import UnitScores
from laconic.sparsify.selection.ranking import as_plan, check_limits, rankings
from laconic.structure.coupling.groups import Coupling


def plan_above(
    scores: Mapping[str, UnitScores],
    coupling: Coupling,
    limit: float,
    *,
    min_units: int = 1,
    multiple: int = 1,
) -> KeepPlan:
    """Keep the units whose score is above a limit; tied groups keep as many as the one with most of them.

    With :func:`laconic.sparsify.scores.snr_groups` and limit -3: units whose noise dominates (log alpha >= 3)
    are removed.

    >>> import numpy as np
    >>> from laconic.structure import Group
    >>> coupling = Coupling((Group("a:0", 3, ()),))
    >>> plan_above({"a:0": np.array([5.0, -4.0, 0.0])}, coupling, -3.0).kept["a:0"]
    (0, 2)
    """
    check_limits(min_units, multiple)
    if not math.isfinite(limit):
        raise InputError(f"the limit on scores must be finite, got {limit}. Cure: limit=0.0")
    ranked = rankings(scores, coupling)
    counts = [max(int((np.asarray(scores[n]) > limit).sum()) for n in r.names) for r in ranked]
    final = [r.allowed(c, min_units, multiple) for r, c in zip(ranked, counts, strict=True)]
    return as_plan(ranked, final)
