r"""Pruning coupled units while training: what all methods that differ only in importance have in common.

A unit (a channel with all that reads and normalises it, a hidden unit, a head) has a mask and an importance.
When the schedule says so, the units that are least important per multiply-accumulate that they cost are
removed, until no more than the scheduled share of the multiply-accumulates is left. Removed units are held at
zero while training goes on, which is the fine-tuning, and never return. At the end the network is shrunk, and
the remaining weights are put on a grid as for every other method.

A method is one more file: a frozen dataclass whose ``importance`` returns functions
(:class:`laconic.methods.common.unit_importance.Importance`). All state lies in buffers on the network's root,
so that a checkpoint holds it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from laconic.errors import InputError, ModelError
from laconic.methods.common.grid_choice import GridChoice, finish
from laconic.methods.common.point import on_a_grid
from laconic.methods.common.unit_cuts import Limits, check_reachable, cut, macs_left
from laconic.methods.common.unit_importance import Importance
from laconic.methods.common.unit_masks import add_unit_masks, groups_of, hold, plan_of, without_bookkeeping
from laconic.methods.common.units import unit_facts
from laconic.methods.contract import Compressed, Context, Judge, Method, schedule_left
from laconic.networks import duplicate, positional
from laconic.networks.probe import check_model
from laconic.schedules import Cubic, Schedule, check_schedule, removed_share
from laconic.sparsify.selection.ranking import check_limits
from laconic.structure import Coupling, find_groups, shrink
from laconic.structure.coupling.groups import left_whole, without_inputs
from laconic.structure.macs import WeightMacs, weight_macs


@dataclass(frozen=True)
class UnitPruning(Method):
    """The settings and the verbs of every method that prunes coupled units.

    Args:
        macs: Share of the multiply-accumulates that stay, in (0, 1].
        schedule: Which share of the rest is removed when (:mod:`laconic.schedules`, or a function of one's
            own).
        min_units: Units that every group keeps; with 0 whole branches may be removed where another way around
            them is left.
        multiple: Unit counts are kept at multiples of this, so that whole SIMD vectors are saved.
        inputs: Whether parts of the network's input may be removed, too.
        epochs: What training is taken to last when the context does not know its total steps.
        every: Steps between two cuts.
        grid: How the remaining weights are quantised (None: they stay float32, to be trained further).
    """

    macs: float = 0.5
    schedule: Schedule = Cubic()
    min_units: int = 1
    multiple: int = 1
    inputs: bool = False
    epochs: float = 10.0
    every: int = 20
    grid: GridChoice | None = field(default_factory=GridChoice)

    changes_architecture = True
    gentler = "larger macs"

    @property
    def smaller(self) -> str:  # type: ignore[override]
        """Fewer multiply-accumulates, and larger steps where there is a grid."""
        return "smaller macs" if self.grid is None else "smaller macs, coarser grid.steps"

    @abstractmethod
    def importance(self) -> Importance:
        """How important units are, as functions."""

    def __post_init__(self) -> None:
        if not 0 < self.macs <= 1:
            raise InputError(
                f"macs is the share of multiply-accumulates to keep, in (0, 1], got {self.macs}"
                ". Cure: macs=0.5"
            )
        check_limits(self.min_units, self.multiple)
        if self.every < 1 or not self.epochs > 0:
            raise InputError(
                f"every and epochs must be positive, got {self.every}, {self.epochs}"
                ". Cure: every=10, epochs=10"
            )
        check_schedule(self.schedule, 1.0 - self.macs)

    def prepare(self, model: nn.Module, example: Any, context: Context) -> nn.Module:
        """A copy that carries, for each coupled group, which units stay and what importance needs."""
        check_model(model, example)
        importance, net = self.importance(), duplicate(model)
        view, inputs = positional(net, example)
        found = find_groups(net, example)
        coupling = importance.scorable(view, found if self.inputs else without_inputs(found), inputs)
        kept = [g.name for g in coupling.groups if any(context.policy.keeps(m.tensor) for m in g.members)]
        coupling = left_whole(coupling, kept, "keep names one of its tensors")
        if not coupling.groups:
            told = "; ".join(coupling.notes) or "its layers are all inputs or outputs"
            raise ModelError(
                f"{type(model).__name__} has no group of units that could be removed: {told}. Cure: fewer "
                "names in keep, or inputs=True"
            )
        macs = weight_macs(net, coupling, example)
        check_reachable(coupling, macs, self.macs, self._limits())
        add_unit_masks(net, coupling, macs)
        importance.attach(net, coupling, context)
        return net

    def step(self, module: nn.Module, context: Context) -> None:
        """Observe this batch, cut every ``every`` steps, and hold what is cut at zero."""
        coupling, macs = groups_of(module)
        importance = self.importance()
        pending = macs_left(module, coupling, macs) > (1.0 - self._final()) * macs.total()
        with torch.no_grad():
            importance.observe(module, coupling, pending)
            if context.step % self.every == 0:
                share = 1.0 - self._removed(context)
                cut(module, coupling, macs, share, importance.of, self._limits())
            hold(module, coupling)

    def convert(self, module: nn.Module, context: Context, judge: Judge | None = None) -> Compressed:
        """Cut to the MACs that the schedule has reached, shrink, and quantise what is left."""
        coupling, macs = groups_of(module)
        importance, work = self.importance(), duplicate(module)
        with torch.no_grad():
            cut(work, coupling, macs, 1.0 - self._reached(context), importance.of, self._limits())
        plan = plan_of(work, coupling)
        importance.detach(work)
        small = shrink(without_bookkeeping(work), coupling, plan)
        facts = _facts(small, coupling, macs, plan.kept)
        if self.grid is None:
            return replace(finish(small, {}, facts, judge), architecture_changed=True)
        done = on_a_grid(small, self.grid, context, judge)
        return Compressed(
            done.module, done.tensors, {**done.facts, **facts}, done.example, architecture_changed=True
        )

    def unfinished(self, context: Context) -> tuple[str, ...]:
        """A schedule that is not at its final share of multiply-accumulates."""
        return schedule_left(self._reached(context), self._final(), "multiply-accumulates", context)

    def planned_epochs(self) -> float:
        """What training is taken to last."""
        return self.epochs

    # --- shares of the multiply-accumulates that are removed -------------------------------------------

    def _final(self) -> float:
        return 1.0 - self.macs

    def _removed(self, context: Context) -> float:
        """Where training stands now."""
        return removed_share(self.schedule, context.progress(self.epochs), self._final())

    def _reached(self, context: Context) -> float:
        """In the end: what the schedule has reached; all of it without training."""
        return self._removed(context) if context.step else self._final()

    def _limits(self) -> Limits:
        return Limits(self.min_units, self.multiple)


def _facts(
    net: nn.Module, coupling: Coupling, macs: WeightMacs, kept: Mapping[str, tuple[int, ...]]
) -> dict[str, Any]:
    return {
        "macs_before": macs.total(),
        "macs_after": macs.total({name: len(units) for name, units in kept.items()}),
        **unit_facts(net, coupling, kept),
        "left_whole": list(coupling.notes),
    }


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
