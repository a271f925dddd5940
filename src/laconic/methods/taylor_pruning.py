r"""Structured pruning by first-order importance (Molchanov, Mallya, Tyree, Frosio & Kautz, CVPR 2019).

Posterior: none (a point). Decision: units of coupled groups (channels with all that reads and normalises
them, hidden units, heads) go by the squared change of the loss that their removal would make to first order,

.. math:: I_u = \Big(\sum_{w \in u} g_w w\Big)^2

(eq. 8, joint over all weights of the unit), averaged over batches, per multiply-accumulate saved. They go bit
by bit while training goes on, along a cubic schedule in MACs; at the end the network is shrunk, not masked.
The survivors are put on a grid as for every other method.
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

_ATTACHED = "_laconic_groups"
_KEPT, _SCORE = "laconic_kept_", "laconic_importance_"


@dataclass(frozen=True)
class TaylorPruning:
    """First-order structured pruning.

    ``macs``: share of the multiply-accumulates that stay. ``floor``: units that every group keeps.
    ``inputs``: whether parts of the network's input may go, too. ``start``, ``end``: share of training
    between which the cubic schedule runs; ``epochs`` is what training is taken to last when the context does
    not know its total steps. ``every``: steps between two cuts. ``memory``: weight of the past in the running
    average of importance. ``grid``: how the survivors are quantised (None: they stay float32, to be trained
    further).
    """

    macs: float = 0.5
    floor: int = 1
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
        if self.floor < 1 or self.every < 1 or not self.epochs > 0 or not 0 <= self.memory < 1:
            raise InputError(
                "floor, every and epochs must be positive and memory in [0, 1), got "
                f"{self.floor}, {self.every}, {self.epochs}, {self.memory}"
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
        groups = tuple(g for g in found.groups if self.inputs or not g.of_input)
        if not groups:
            told = "; ".join(found.notes) or "its layers are all inputs or outputs"
            raise ModelError(f"{type(model).__name__} has no group of units that could go: {told}")
        coupling = Coupling(groups, found.tied, found.notes)
        net.__dict__[_ATTACHED] = (coupling, weight_macs(net, coupling, inputs))
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
                done = self._progress(context)
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
        tensors = dict(module.named_parameters())
        for score, group in zip(_buffers(module, _SCORE), coupling.groups, strict=True):
            total = torch.zeros(group.size + 1, device=score.device)
            for member in group.members:
                weight = tensors.get(member.tensor)
                if weight is None or weight.grad is None:
                    continue
                product = (weight * weight.grad).float()
                by_place = product.movedim(member.axis, 0).reshape(len(member.units), -1).sum(1)
                total.index_add_(0, torch.as_tensor(member.units, device=score.device) % len(total), by_place)
            score.mul_(self.memory).add_(total[:-1].square(), alpha=1 - self.memory)

    def _cut(self, module: nn.Module, coupling: Coupling, macs: WeightMacs, share: float) -> None:
        """Remove the units that matter least per MAC until no more than ``share`` of the MACs are left."""
        masks = dict(zip((g.name for g in coupling.groups), _buffers(module, _KEPT), strict=True))
        scores = {
            g.name: np.where(masks[g.name].cpu(), s.cpu().double(), np.inf)
            for g, s in zip(coupling.groups, _buffers(module, _SCORE), strict=True)
        }
        for name, unit in least_per_mac(coupling, scores, macs, share * macs.total(), self.floor):
            masks[name][unit] = False

    def _progress(self, context: Context) -> float:
        if context.total_steps is not None:
            return context.step / context.total_steps
        return context.epochs / self.epochs


def least_per_mac(
    coupling: Coupling, scores: Mapping[str, Any], macs: WeightMacs, limit: float, floor: int
) -> list[tuple[str, int]]:
    """Units to remove, in order, until the MACs are within ``limit`` or every group is at its floor.

    ``scores`` holds infinity for units that are gone already. Groups that must keep equally many lose one
    unit each at a time.
    """
    left = {name: np.array(s, dtype=np.float64) for name, s in scores.items()}
    kept = {name: int(np.isfinite(s).sum()) for name, s in left.items()}
    bundles = [tuple(names) for names in coupling.tied if set(names) <= set(left)]
    tied = {name for names in bundles for name in names}
    bundles += [(name,) for name in left if name not in tied]
    removed: list[tuple[str, int]] = []
    total = macs.total(kept)
    while total > limit:
        best: tuple[float, tuple[str, ...], float] | None = None
        for names in bundles:
            if any(kept[n] <= floor for n in names):
                continue
            saved = total - macs.total({**kept, **{n: kept[n] - 1 for n in names}})
            price = sum(float(left[n].min()) for n in names) / max(saved, 1e-9)
            if best is None or price < best[0]:
                best = (price, names, saved)
        if best is None:
            break
        for name in best[1]:
            unit = int(left[name].argmin())
            left[name][unit] = np.inf
            kept[name] -= 1
            removed.append((name, unit))
        total -= best[2]
    return removed


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
    """Zero everything that belongs to units that are gone."""
    tensors: dict[str, Tensor] = dict(module.named_parameters())
    moving = {n: b for n, b in module.named_buffers() if not n.endswith("running_var")}
    tensors |= {n: b for n, b in moving.items() if b.is_floating_point()}
    for mask, group in zip(_buffers(module, _KEPT), coupling.groups, strict=True):
        if bool(mask.all()):
            continue
        _zero(group, mask, tensors)


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
