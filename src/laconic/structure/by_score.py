"""A keep plan from a decision on each unit and a score of each."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from laconic.records import KeepPlan
from laconic.structure.coupling.groups import Coupling


def plan_of_scores(keeps: Mapping[str, Tensor], scores: Mapping[str, Tensor], coupling: Coupling) -> KeepPlan:
    """The units that a decision keeps, and those of the highest score where a group must keep more.

    A group keeps one unit at least, unless its branch may go. Groups that must keep equally many keep as many
    as the one that keeps most.

    Args:
        keeps: By group which units the decision keeps, boolean, (units,).
        scores: By group how much each unit counts, (units,).
        coupling: The groups.

    Returns:
        The units that stay, by group.

    >>> from torch import nn
    >>> from laconic.structure import find_groups
    >>> coupling = find_groups(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), torch.zeros(1, 2))
    >>> keeps = {"0.weight:0": torch.tensor([False, False, False])}
    >>> plan_of_scores(keeps, {"0.weight:0": torch.tensor([0.1, 0.3, 0.2])}, coupling).kept
    {'0.weight:0': (1,)}
    """
    counts = {n: max(int(keep.sum()), int(n not in coupling.branches)) for n, keep in keeps.items()}
    for names in coupling.tied:
        whole = any(n not in counts for n in names)
        most = max((counts.get(n, coupling.group(n).size) for n in names), default=0)
        for name in (n for n in names if n in counts):
            counts[name] = coupling.group(name).size if whole else most
    kept: dict[str, tuple[int, ...]] = {}
    for name, keep in keeps.items():
        by_score = torch.argsort(scores[name], descending=True, stable=True)
        order = by_score[torch.argsort(keep[by_score].int(), descending=True, stable=True)]
        kept[name] = tuple(sorted(order[: counts[name]].tolist()))
    return KeepPlan(kept, {n: coupling.group(n).size for n in kept})
