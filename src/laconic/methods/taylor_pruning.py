r"""Structured pruning by first-order importance (Molchanov, Mallya, Tyree, Frosio & Kautz, CVPR 2019).

Posterior: none (a point). Decision: units of coupled groups (channels with all that reads and normalises
them, hidden units, heads) go by the squared change of the loss that their removal would make to first order,

.. math:: I_u = \Big(\sum_{w \in u} g_w w\Big)^2

(section 3.1, joint over the weights that read the unit), averaged over batches, per multiply-accumulate
saved. They go bit by bit while training goes on, along a cubic schedule in MACs; at the end the network is
shrunk, not masked. The survivors are put on a grid as for every other method.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from laconic.bayes.prepare import check_model, duplicate, weights_of
from laconic.errors import InputError, ModelError
from laconic.methods.contract import Compressed, Context, Judge
from laconic.methods.grid_choice import GridChoice, choose_grid, finish, trained
from laconic.methods.magnitude import point_stats
from laconic.records import KeepPlan
from laconic.sparsify import Coupling, Group, find_groups, shrink
from laconic.sparsify.macs import WeightMacs, weight_macs
from laconic.sparsify.magnitude import cubic_sparsity
from laconic.sparsify.scores.aggregate import readers, unit_scores
from laconic.sparsify.selection import allowed, check_limits, without_inputs
from laconic.sparsify.selection_budget import plan_by_budget

_ATTACHED = "_laconic_groups"
_KEPT, _SCORE = "laconic_kept_", "laconic_importance_"


@dataclass(frozen=True)
class TaylorPruning:
    """First-order structured pruning.

    ``macs``: share of the multiply-accumulates that stay. ``floor``: units that every group keeps; with 0
    whole branches may go where another way around them is left. ``multiple``: units are kept in multiples
    of so many, the lanes of a kernel: what removes fewer saves no time.
    ``inputs``: whether parts of the network's input may go, too. ``start``, ``end``: share of training
    between which the cubic schedule runs; ``epochs`` is what training is taken to last when the context does
    not know its total steps. ``every``: steps between two cuts. ``memory``: weight of the past in the running
    average of importance. ``grid``: how the survivors are quantised (None: they stay float32, to be trained
    further).
    """

    macs: float = 0.5
    floor: int = 1
    multiple: int = 1
    inputs: bool = False
    start: float = 0.0
    end: float = 0.6
    epochs: float = 10.0
    every: int = 20
    memory: float = 0.9
    grid: GridChoice | None = field(default_factory=GridChoice)

    def __post_init__(self) -> None:
        if not 0 < self.macs <= 1:
            raise InputError(f"macs is the share of multiply-accumulates to keep, in (0, 1], got {self.macs}")
        check_limits(self.floor, self.multiple)
        if self.every < 1 or not self.epochs > 0 or not 0 <= self.memory < 1:
            raise InputError(
                "every and epochs must be positive and memory in [0, 1), got "
                f"{self.every}, {self.epochs}, {self.memory}"
            )
        cubic_sparsity(0.0, 1.0 - self.macs, start=self.start, end=self.end)

    def prepare(self, model: nn.Module, example: Any, context: Context) -> nn.Module:
        """A copy that carries, for each coupled group, which units stay and how much each matters."""
        check_model(model, example)
        net = duplicate(model)
        inputs = example if isinstance(example, tuple) else (example,)
        if not all(isinstance(x, Tensor) for x in inputs):
            raise InputError("structured pruning takes an example of tensors. Cure: a tensor, or a tuple")
        found = find_groups(net, inputs)
        coupling = found if self.inputs else without_inputs(found)
        groups = coupling.groups
        if not groups:
            told = "; ".join(found.notes) or "its layers are all inputs or outputs"
            raise ModelError(f"{type(model).__name__} has no group of units that could go: {told}")
        macs = weight_macs(net, coupling, inputs)
        floors = {g.name: self.floor if g.name in coupling.branches else max(1, self.floor) for g in groups}
        fewest = {g.name: allowed(g.size, 0, floors[g.name], self.multiple) for g in groups}
        least = macs.total(fewest) / macs.total()
        if least > self.macs:
            raise InputError(
                f"with {self.floor} units left in every group, in multiples of {self.multiple}, {least:.3f} "
                f"of the multiply-accumulates remain, which is more than macs={self.macs:g}. "
                "Cure: a larger macs, or a smaller floor or multiple"
            )
        net.__dict__[_ATTACHED] = (coupling, macs)
        for k, group in enumerate(groups):
            net.register_buffer(f"{_KEPT}{k}", torch.ones(group.size, dtype=torch.bool))
            net.register_buffer(f"{_SCORE}{k}", torch.zeros(group.size))
        return net

    def penalty(self, module: nn.Module, context: Context) -> torch.Tensor:
        """Zero: pruning adds nothing to the loss."""
        return next(module.parameters()).new_zeros(())

    def param_groups(self, module: nn.Module, lr: float) -> list[dict[str, Any]]:
        """All parameters at ``lr``."""
        return [{"params": list(module.parameters()), "lr": lr}]

    def step(self, module: nn.Module, context: Context) -> None:
        """Average in this batch's importance, cut every ``every`` steps, and hold what is cut at zero."""
        coupling, macs = groups_of(module)
        with torch.no_grad():
            self._learn(module, coupling)
            if context.step % self.every == 0:
                done = context.progress(self.epochs)
                gone = cubic_sparsity(done, 1.0 - self.macs, start=self.start, end=self.end)
                self._cut(module, coupling, macs, 1.0 - gone)
            hold(module, coupling)

    def convert(self, module: nn.Module, context: Context, judge: Judge | None = None) -> Compressed:
        """Cut to the final MACs, shrink, and quantise what is left."""
        coupling, macs = groups_of(module)
        work = duplicate(module)
        with torch.no_grad():
            self._cut(work, coupling, macs, self.macs)
        plan = plan_of(work, coupling)
        small = shrink(_plain(work), coupling, plan)
        facts = {
            "macs_before": macs.total(),
            "macs_after": macs.total({name: len(kept) for name, kept in plan.kept.items()}),
            "kept_units": {name: list(kept) for name, kept in plan.kept.items()},
            "left_whole": list(coupling.notes),
        }
        if self.grid is None:
            return finish(small, {}, facts, judge)
        done = self._on_a_grid(small, self.grid, context, judge)
        return Compressed(done.module, done.tensors, {**done.facts, **facts}, done.example)

    def _on_a_grid(
        self, small: nn.Module, grid: GridChoice, context: Context, judge: Judge | None
    ) -> Compressed:
        weights = {n: np.asarray(w.detach().cpu(), np.float32) for n, w in weights_of(small).items()}
        stats = {n: point_stats(n, w) for n, w in weights.items()}
        keeps = {n: np.ones(w.shape, dtype=bool) for n, w in weights.items()}
        rest = trained({n: p for n, p in small.named_parameters() if n not in stats})
        return choose_grid(small, stats, keeps, rest, grid, judge, context.example)

    def _learn(self, module: nn.Module, coupling: Coupling) -> None:
        parameters = module.named_parameters()
        products = {n: p * p.grad for n, p in parameters if p.grad is not None and p.ndim}
        for score, group in zip(_buffers(module, _SCORE), coupling.groups, strict=True):
            if any(m.tensor in products for m in readers(module, group)):
                change = unit_scores(module, group, products, members=readers)
                score.mul_(self.memory).add_(torch.as_tensor(change**2).to(score), alpha=1 - self.memory)

    def _cut(self, module: nn.Module, coupling: Coupling, macs: WeightMacs, share: float) -> None:
        """Remove the units that matter least per MAC until no more than ``share`` of the MACs are left."""
        masks = dict(zip((g.name for g in coupling.groups), _buffers(module, _KEPT), strict=True))
        scores = {}
        for (name, mask), score in zip(masks.items(), _buffers(module, _SCORE), strict=True):
            # Gone units come first, at no loss; those that are left never cost quite nothing.
            scores[name] = np.where(mask.cpu(), score.cpu().double() + np.finfo(np.float64).tiny, 0.0)
        whole = macs.total()

        def saved(plan: KeepPlan) -> float:
            return whole - macs.total({name: len(units) for name, units in plan.kept.items()})

        plan = plan_by_budget(
            scores,
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


def groups_of(module: nn.Module) -> tuple[Coupling, WeightMacs]:
    """What ``prepare`` found."""
    coupling, macs = module.__dict__[_ATTACHED]
    return coupling, macs


def plan_of(module: nn.Module, coupling: Coupling) -> KeepPlan:
    """The units that are left, as a plan."""
    kept = {
        g.name: tuple(np.flatnonzero(m.cpu().numpy()).tolist())
        for g, m in zip(coupling.groups, _buffers(module, _KEPT), strict=True)
    }
    return KeepPlan(kept, {g.name: g.size for g in coupling.groups})


def hold(module: nn.Module, coupling: Coupling) -> None:
    """Zero everything that belongs to units that are gone, and all of a branch that has none left."""
    tensors: dict[str, Tensor] = dict(module.named_parameters())
    moving = {n: b for n, b in module.named_buffers() if not n.endswith("running_var")}
    tensors |= {n: b for n, b in moving.items() if b.is_floating_point()}
    for mask, group in zip(_buffers(module, _KEPT), coupling.groups, strict=True):
        if bool(mask.all()):
            continue
        _zero(group, mask, tensors)
        if not bool(mask.any()):
            for name in coupling.branches.by_group[group.name].modules:
                for tensor in (t for n, t in tensors.items() if n.rpartition(".")[0] == name):
                    tensor.zero_()


def _zero(group: Group, mask: Tensor, tensors: Mapping[str, Tensor]) -> None:
    gone = torch.cat([~mask, mask.new_zeros(1)])  # the last stands for positions of other groups
    for member in group.members:
        tensor = tensors.get(member.tensor)
        if tensor is not None:
            places = gone[torch.as_tensor(member.units, device=mask.device) % len(gone)].nonzero().ravel()
            tensor.index_fill_(member.axis, places, 0)


def _buffers(module: nn.Module, prefix: str) -> list[Tensor]:
    return [b for name, b in module.named_buffers(recurse=False) if name.startswith(prefix)]


def _plain(net: nn.Module) -> nn.Module:
    """``net`` itself, its bookkeeping removed."""
    for name in [n for n, _ in net.named_buffers(recurse=False) if n.startswith((_KEPT, _SCORE))]:
        delattr(net, name)
    net.__dict__.pop(_ATTACHED)
    return net
