"""Which units stay under a budget: greedily, those with the least score per saving are removed first.

What a plan saves is a function handed in, in any unit (bytes, multiply-adds, seconds), so this package does
not know any cost.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import nn

from laconic.errors import InputError
from laconic.records import KeepPlan
from laconic.sparsify.scores.common import UnitScores
from laconic.sparsify.selection.ranking import Ranking, as_plan, check_limits, rankings
from laconic.structure.coupling.groups import Coupling
from laconic.structure.shrinking import kept_positions

Saving = Callable[[KeepPlan], float]


def plan_by_budget(
    scores: Mapping[str, UnitScores],
    coupling: Coupling,
    saving: Saving,
    target: float,
    *,
    min_units: int = 1,
    multiple: int = 1,
    give_back: bool = False,
) -> KeepPlan:
    """Remove units, those with the least score per saving first, until ``saving(plan) >= target``.

    Each step removes the lowest unit of one group (of each group of a tied set; ``multiple`` units at a
    time) for which score lost / saving gained is least. A group's ratio is computed again only when it comes
    first: exact where a unit saves less after others are removed, as with bytes and MACs. With
    ``give_back``, steps that turn out not to be needed are undone at the end, the highest score first: for
    steps so large that the last goes far beyond the target (plans for more and for less are then no longer
    nested). Scores must not be negative.

    Raises InputError when keeping only ``min_units`` units of each group saves less than ``target``.

    >>> from laconic.structure import Group
    >>> coupling = Coupling((Group("a:0", 3, ()), Group("b:0", 3, ())))
    >>> scores = {"a:0": np.array([1.0, 2, 3]), "b:0": np.array([4.0, 5, 6])}
    >>> plan = plan_by_budget(scores, coupling, unit_savings({"a:0": 1.0, "b:0": 10.0}), 12.0)
    >>> dict(plan.kept)
    {'a:0': (0, 1, 2), 'b:0': (2,)}
    """
    check_limits(min_units, multiple)
    for name, values in scores.items():
        if bool((np.asarray(values) < 0).any()):
            raise InputError(
                f"scores of group {name!r} are negative, which no budget can weigh. "
                "Cure: groups_each(scores, by_rank)"
            )
    greedy = _Greedy(rankings(scores, coupling), saving, min_units, multiple)
    greedy.until(target)
    if give_back:
        greedy.give_back(target)
    return greedy.plan()


class _Greedy:
    """Removes units step by step."""

    def __init__(self, ranked: Sequence[Ranking], saving: Saving, min_units: int, multiple: int) -> None:
        self._ranked, self._saving, self._min_units, self._multiple = ranked, saving, min_units, multiple
        self._counts = [r.size for r in ranked]

    def plan(self) -> KeepPlan:
        """What is kept now."""
        return as_plan(self._ranked, self._counts)

    def until(self, target: float) -> None:
        """Remove units until enough is saved."""
        saved = self._saving(as_plan(self._ranked, self._counts)) if self._ranked else 0.0
        first = ((self._ratio(k, saved), k) for k in range(len(self._ranked)))
        queue = [(ratio, k, 0) for ratio, k in first if ratio is not None]
        heapq.heapify(queue)
        step = 0
        while saved < target:
            if not queue:
                raise InputError(
                    f"keeping at least {self._min_units} units in multiples of {self._multiple} per group "
                    f"saves {saved:.6g}, which is less than {target:.6g}. "
                    "Cure: ask for less, or set a lower min_units"
                )
            ratio, k, seen = heapq.heappop(queue)
            if seen < step:  # what it saves has changed since
                fresh = self._ratio(k, saved)
                if fresh is not None:
                    heapq.heappush(queue, (fresh, k, step))
                continue
            self._counts[k] = self._next(k)
            saved = self._saving(as_plan(self._ranked, self._counts))
            step += 1
            following = self._ratio(k, saved)
            if following is not None:
                heapq.heappush(queue, (following, k, step))

    def give_back(self, target: float) -> None:
        """Undo steps, those that lost most first, as long as enough is saved without them."""
        while True:
            undone = [(self._importance(k, more), k, more) for k, more in enumerate(self._more())]
            for importance, k, more in sorted(undone, key=lambda u: (-u[0], u[1])):
                counts = [more if j == k else c for j, c in enumerate(self._counts)]
                if importance > 0 and self._saving(as_plan(self._ranked, counts)) >= target:
                    self._counts = counts
                    break
            else:
                return

    def _more(self) -> list[int]:
        """How many units each set keeps without its last step."""
        return [
            min(r.size, (c // self._multiple + 1) * self._multiple)
            for r, c in zip(self._ranked, self._counts, strict=True)
        ]

    def _importance(self, k: int, more: int) -> float:
        ranking = self._ranked[k]
        return sum(ranking.importance[ranking.size - more : ranking.size - self._counts[k]])

    def _next(self, k: int) -> int:
        """How many units set k keeps after its next step."""
        wanted = (self._counts[k] - 1) // self._multiple * self._multiple
        return self._ranked[k].allowed(wanted, self._min_units, self._multiple)

    def _ratio(self, k: int, saved: float) -> float | None:
        """Score lost per saving gained in the next step of a set; None when there is no next step."""
        after = self._next(k)
        if after >= self._counts[k]:
            return None
        ranking = self._ranked[k]
        lost = sum(ranking.importance[ranking.size - self._counts[k] : ranking.size - after])
        counts = [after if j == k else c for j, c in enumerate(self._counts)]
        gained = self._saving(as_plan(self._ranked, counts)) - saved
        return lost / gained if gained > 0 else float("inf")


def unit_savings(costs: Mapping[str, float]) -> Saving:
    """What a plan saves when each unit of a group saves a fixed amount, whatever else is removed."""

    def saving(plan: KeepPlan) -> float:
        return sum(costs.get(name, 0.0) * len(plan.removed(name)) for name in plan.kept)

    return saving


def weights_saved(module: nn.Module, coupling: Coupling) -> Saving:
    """How many of the network's parameters a plan removes: exactly, without shrinking the network.

    The constants that replace an emptied branch, one number per channel, are not counted.

    >>> import torch
    >>> from laconic.structure import find_groups
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> coupling = find_groups(net, torch.zeros(2, 4))
    >>> plan = KeepPlan({"0.weight:0": (0, 1, 2)}, {"0.weight:0": 8})
    >>> weights_saved(net, coupling)(plan)  # 5 * (4 + 1 + 2)
    35
    """
    shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}

    def saving(plan: KeepPlan) -> float:
        left = {name: list(shape) for name, shape in shapes.items()}
        for (name, axis), stay in kept_positions(coupling, plan).items():
            if name in left:
                left[name][axis] = int(np.count_nonzero(stay))
        removed = {m for g, k in plan.kept.items() if not k for m in coupling.branches.by_group[g].modules}
        sizes = {n: 0 if n.rpartition(".")[0] in removed else math.prod(s) for n, s in left.items()}
        return sum(math.prod(shapes[n]) - size for n, size in sizes.items())

    return saving
