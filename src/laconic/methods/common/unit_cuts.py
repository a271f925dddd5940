"""Cuts of coupled units to a share of the multiply-accumulates, the least important per MAC first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from laconic.errors import InputError
from laconic.methods.common.unit_importance import ScoreUnits
from laconic.methods.common.unit_masks import unit_masks_of
from laconic.records import KeepPlan
from laconic.sparsify.scores.common import GroupScores, UnitScores, finite
from laconic.sparsify.selection.budget import plan_by_budget
from laconic.sparsify.selection.ranking import allowed
from laconic.structure import Coupling
from laconic.structure.macs import WeightMacs


@dataclass(frozen=True)
class Limits:
    """Units that every group keeps, and the multiple that unit counts are rounded up to."""

    min_units: int
    multiple: int


def macs_left(module: nn.Module, coupling: Coupling, macs: WeightMacs) -> float:
    """Multiply-accumulates of one example with the units that the masks keep."""
    return macs.total({name: int(mask.sum()) for name, mask in unit_masks_of(module, coupling).items()})


def check_reachable(coupling: Coupling, macs: WeightMacs, share: float, limits: Limits) -> None:
    """Raises InputError where the limits keep more than this share of the multiply-accumulates."""
    groups = coupling.groups
    min_units = {
        g.name: limits.min_units if g.name in coupling.branches else max(1, limits.min_units) for g in groups
    }
    fewest = {g.name: allowed(g.size, 0, min_units[g.name], limits.multiple) for g in groups}
    least = macs.total(fewest) / macs.total()
    if least > share:
        raise InputError(
            f"with {limits.min_units} units left a group, in multiples of {limits.multiple}, {least:.3f} "
            f"of the multiply-accumulates remain, which is more than macs={share:g}. "
            "Cure: a larger macs, or a smaller min_units or multiple"
        )


def cut(
    module: nn.Module,
    coupling: Coupling,
    macs: WeightMacs,
    share: float,
    importance: ScoreUnits,
    limits: Limits,
) -> None:
    """Remove the units that are least important per MAC until no more than ``share`` of the MACs are left.

    Args:
        module: A prepared network; its masks are written.
        coupling: Its groups.
        macs: Its multiply-accumulates.
        share: Of all multiply-accumulates, in [0, 1].
        importance: Asked only where something has to be removed.
        limits: What every group keeps.
    """
    whole = macs.total()
    if macs_left(module, coupling, macs) <= share * whole:
        return
    masks = unit_masks_of(module, coupling)

    def saved(plan: KeepPlan) -> float:
        return whole - macs.total({name: len(units) for name, units in plan.kept.items()})

    plan = plan_by_budget(
        _removed_first(importance(module, coupling), masks),
        coupling,
        saved,
        (1.0 - share) * whole,
        min_units=limits.min_units,
        multiple=limits.multiple,
        give_back=limits.multiple > 1,
    )
    for name, units in plan.kept.items():
        stay = torch.zeros_like(masks[name])
        stay[list(units)] = True
        masks[name].logical_and_(stay)


def _removed_first(importance: GroupScores, masks: Mapping[str, Tensor]) -> GroupScores:
    """Removed units go first, at no loss; those that are left always cost something."""
    scores: GroupScores = {}
    for name in importance:
        if name not in masks:
            raise InputError(f"scores name a group {name!r}. Cure: one of {', '.join(masks)}")
    for name, values in finite(importance, "pruning of units").items():
        alive: npt.NDArray[np.bool_] = masks[name].cpu().numpy()
        each: UnitScores = np.asarray(values, np.float64)
        if each.shape != alive.shape:
            raise InputError(
                f"group {name!r} has {alive.size} units, its scores have shape {each.shape}. "
                "Cure: one score a unit"
            )
        scores[name] = np.where(alive, each + np.finfo(np.float64).tiny, 0.0)
    return scores
