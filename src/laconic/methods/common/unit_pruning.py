r"""Pruning coupled units while training: what all methods that differ only in their score have in common.

A unit (a channel with all that reads and normalises it, a hidden unit, a head) has a mask and a worth. When
the schedule says so, the units that are worth least per multiply-accumulate that they cost go, until no more
than the scheduled share of the multiply-accumulates is left. What is gone is held at zero while training goes
on, which is the fine-tuning, and never returns; at the end the network is shrunk, not masked, and the
survivors are put on a grid as for every other method.

A method is one more file: a dataclass that says what a unit is worth (:class:`UnitPruning.worth`), and what
it learns of each batch. All that it remembers lies in buffers on the network's root, so that a checkpoint
holds it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from laconic.bayes.prepare import check_model
from laconic.errors import InputError, ModelError
from laconic.methods.common.grid_choice import GridChoice, finish
from laconic.methods.common.point import on_a_grid
from laconic.methods.common.unit_masks import (
    add_averages,
    add_masks,
    averages_of,
    groups_of,
    hold,
    masks_of,
    plan_of,
    without_bookkeeping,
)
from laconic.methods.contract import Compressed, Context, Judge, Method, schedule_left
from laconic.networks import duplicate, positional
from laconic.records import KeepPlan
from laconic.schedules.sparsity import Cubic, check_schedule, share_gone
from laconic.schedules.steps import Schedule
from laconic.sparsify.scores.common import GroupScores, UnitScores, finite
from laconic.sparsify.selection.budget import plan_by_budget
from laconic.sparsify.selection.ranking import allowed, check_limits
from laconic.structure import Coupling, find_groups, shrink
from laconic.structure.coupling.groups import left_whole, without_inputs
from laconic.structure.macs import WeightMacs, weight_macs


class UnitPruner(Method):
    """The verbs of a method that prunes coupled units, for any worth and any schedule of cuts."""

    macs: float
    floor: int
    multiple: int
    inputs: bool
    epochs: float
    every: int
    grid: GridChoice | None

    changes_architecture = True
    gentler = "larger macs"
    smaller = "smaller macs"

    # --- what a method says -------------------------------------------------------------------------

    @abstractmethod
    def worth(self, module: nn.Module, coupling: Coupling) -> GroupScores:
        """What each unit is worth as the network stands, at least 0; groups that are not named stay whole.

        What it says of units that are gone is not looked at.
        """

    @abstractmethod
    def gone(self, progress: float) -> float:
        """The share of the multiply-accumulates that is gone at this share of training."""

    def remember(self, net: nn.Module, coupling: Coupling, inputs: tuple[Tensor, ...], seen: Context) -> None:
        """Add the buffers and hooks that the score needs to a network that is being prepared; here none."""
        return

    def scored(self, net: nn.Module, coupling: Coupling, inputs: tuple[Tensor, ...]) -> Coupling:
        """The groups that can be scored, with a note on each other one, which is left whole; here all can."""
        return coupling

    def learn(self, module: nn.Module, coupling: Coupling) -> None:
        """Take in the batch that was just trained on, its gradients still there; here nothing."""
        return

    def forget(self, net: nn.Module) -> None:
        """Take hooks off a copy that is about to be shrunk; buffers go by themselves."""
        return

    # --- the verbs ----------------------------------------------------------------------------------

    def prepare(self, model: nn.Module, example: Any, context: Context) -> nn.Module:
        """A copy that carries, for each coupled group, which units stay and what the method remembers."""
        check_model(model, example)
        net = duplicate(model)
        view, inputs = positional(net, example)
        found = find_groups(net, example)
        coupling = self.scored(view, found if self.inputs else without_inputs(found), inputs)
        kept = [g.name for g in coupling.groups if any(context.policy.keeps(m.tensor) for m in g.members)]
        coupling = left_whole(coupling, kept, "keep names one of its tensors")
        if not coupling.groups:
            told = "; ".join(coupling.notes) or "its layers are all inputs or outputs"
            raise ModelError(f"{type(model).__name__} has no group of units that could go: {told}")
        macs = weight_macs(net, coupling, example)
        self._check_reachable(coupling, macs)
        add_masks(net, coupling, macs)
        self.remember(net, coupling, inputs, context)
        return net

    def step(self, module: nn.Module, context: Context) -> None:
        """Learn from this batch, cut every ``every`` steps, and hold what is cut at zero."""
        coupling, macs = groups_of(module)
        with torch.no_grad():
            self.learn(module, coupling)
            if context.step % self.every == 0:
                self._cut(module, coupling, macs, 1.0 - self.gone(context.progress(self.epochs)))
            hold(module, coupling)

    def convert(self, module: nn.Module, context: Context, judge: Judge | None = None) -> Compressed:
        """Cut to the MACs that the schedule has reached, shrink, and quantise what is left."""
        coupling, macs = groups_of(module)
        work = duplicate(module)
        with torch.no_grad():
            self._cut(work, coupling, macs, 1.0 - self._share(context))
        plan = plan_of(work, coupling)
        self.forget(work)
        small = shrink(without_bookkeeping(work), coupling, plan)
        facts = {
            "macs_before": macs.total(),
            "macs_after": macs.total({name: len(kept) for name, kept in plan.kept.items()}),
            "kept_units": {name: list(kept) for name, kept in plan.kept.items()},
            "left_whole": list(coupling.notes),
        }
        if self.grid is None:
            return replace(finish(small, {}, facts, judge), architecture_changed=True)
        done = on_a_grid(small, self.grid, context, judge)
        return Compressed(
            done.module, done.tensors, {**done.facts, **facts}, done.example, architecture_changed=True
        )

    def unfinished(self, context: Context) -> tuple[str, ...]:
        """A schedule that is not at its final share of multiply-accumulates."""
        return schedule_left(self._share(context), 1.0 - self.macs, "multiply-accumulates", context)

    def planned_epochs(self) -> float:
        """What training is taken to last."""
        return self.epochs

    def _share(self, context: Context) -> float:
        """The share to cut in the end: what the schedule has reached; all of it without training."""
        return self.gone(context.progress(self.epochs)) if context.step else 1.0 - self.macs

    # --- cuts ---------------------------------------------------------------------------------------

    def above_target(self, module: nn.Module) -> bool:
        """Whether more multiply-accumulates are left than there should be in the end."""
        coupling, macs = groups_of(module)
        return _left(module, coupling, macs) > self.macs * macs.total()

    def _check_limits(self) -> None:
        if not 0 < self.macs <= 1:
            raise InputError(f"macs is the share of multiply-accumulates to keep, in (0, 1], got {self.macs}")
        check_limits(self.floor, self.multiple)
        if self.every < 1 or not self.epochs > 0:
            raise InputError(f"every and epochs must be positive, got {self.every}, {self.epochs}")

    def _check_reachable(self, coupling: Coupling, macs: WeightMacs) -> None:
        groups = coupling.groups
        floors = {g.name: self.floor if g.name in coupling.branches else max(1, self.floor) for g in groups}
        fewest = {g.name: allowed(g.size, 0, floors[g.name], self.multiple) for g in groups}
        least = macs.total(fewest) / macs.total()
        if least > self.macs:
            raise InputError(
                f"with {self.floor} units left in every group, in multiples of {self.multiple}, {least:.3f} "
                f"of the multiply-accumulates remain, which is more than macs={self.macs:g}. "
                "Cure: a larger macs, or a smaller floor or multiple"
            )

    def _cut(self, module: nn.Module, coupling: Coupling, macs: WeightMacs, share: float) -> None:
        """Remove the units that are worth least per MAC until no more than ``share`` of the MACs are left."""
        whole = macs.total()
        if _left(module, coupling, macs) <= share * whole:
            return
        masks = masks_of(module, coupling)

        def saved(plan: KeepPlan) -> float:
            return whole - macs.total({name: len(units) for name, units in plan.kept.items()})

        plan = plan_by_budget(
            _weighed(self.worth(module, coupling), masks),
            coupling,
            saved,
            (1.0 - share) * whole,
            floor=self.floor,
            multiple=self.multiple,
            give_back=self.multiple > 1,
        )
        for name, units in plan.kept.items():
            stay = torch.zeros_like(masks[name])
            stay[list(units)] = True
            masks[name].logical_and_(stay)


@dataclass(frozen=True)
class UnitPruning(UnitPruner):
    """What every method of this kind is told.

    ``macs``: share of the multiply-accumulates that stay. ``schedule``: when how much of the rest goes
    (:mod:`laconic.schedules.sparsity`, or a function of one's own). ``floor``: units that every group keeps;
    with 0 whole branches may go where another way around them is left. ``multiple``: units are kept in
    multiples of so many, the lanes of a kernel. ``inputs``: whether parts of the network's input may go, too.
    ``epochs`` is what training is taken to last when the context does not know its total steps. ``every``:
    steps between two looks at the schedule. ``grid``: how the survivors are quantised (None: they stay
    float32, to be trained further).
    """

    macs: float = 0.5
    schedule: Schedule = field(default_factory=Cubic)
    floor: int = 1
    multiple: int = 1
    inputs: bool = False
    epochs: float = 10.0
    every: int = 20
    grid: GridChoice | None = field(default_factory=GridChoice)

    def __post_init__(self) -> None:
        self._check_limits()
        check_schedule(self.schedule, 1.0 - self.macs)

    def gone(self, progress: float) -> float:
        """The share of the multiply-accumulates that is gone at this share of training."""
        return share_gone(self.schedule, progress, 1.0 - self.macs)


@dataclass(frozen=True)
class AveragedPruning(UnitPruning):
    """Pruning by a running average over the batches of training.

    ``memory``: weight of the past in it; 0 looks at the last batch alone. One average is kept a unit.
    """

    memory: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        check_memory(self.memory)

    def remember(self, net: nn.Module, coupling: Coupling, inputs: tuple[Tensor, ...], seen: Context) -> None:
        """One average a unit."""
        add_averages(net, coupling)

    def worth(self, module: nn.Module, coupling: Coupling) -> GroupScores:
        """The averages."""
        return averages_of(module, coupling)


def check_memory(memory: float) -> None:
    """Raises InputError unless the weight of the past lies in [0, 1)."""
    if not 0 <= memory < 1:
        raise InputError(f"memory, the weight of the past, must lie in [0, 1), got {memory}. Cure: 0.9")


def _left(module: nn.Module, coupling: Coupling, macs: WeightMacs) -> float:
    return macs.total({name: int(mask.sum()) for name, mask in masks_of(module, coupling).items()})


def _weighed(worth: GroupScores, masks: Mapping[str, Tensor]) -> GroupScores:
    """Gone units come first, at no loss; those that are left never cost quite nothing."""
    scores: GroupScores = {}
    for name in worth:
        if name not in masks:
            raise InputError(f"scores name a group {name!r}. Cure: one of {', '.join(masks)}")
    for name, values in finite(worth, "pruning of units").items():
        alive: npt.NDArray[np.bool_] = masks[name].cpu().numpy()
        each: UnitScores = np.asarray(values, np.float64)
        if each.shape != alive.shape:
            raise InputError(
                f"group {name!r} has {alive.size} units, its scores have shape {each.shape}. "
                "Cure: one score a unit"
            )
        scores[name] = np.where(alive, each + np.finfo(np.float64).tiny, 0.0)
    return scores


# Methods that prune units differ in a unit's importance and in when it goes, not in how much is left.
_FULL_LENET5 = {"macs": 0.12, "fit.epochs": 20}
_FULL = {"macs": 0.3, "fit.epochs": 20}

PRESETS = {
    "full": {"lenet5": _FULL_LENET5, "": _FULL},
    "demo": {
        "lenet5": {**_FULL_LENET5, "fit.epochs": 8, "reference.epochs": 3},
        "lenet300": {**_FULL, "fit.epochs": 8, "reference.epochs": 3},
        "": {**_FULL, "fit.epochs": 8},
    },
}
