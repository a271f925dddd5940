"""Magnitude pruning with a schedule, as a rule cubic (Han et al. 2015; Zhu & Gupta 2017): the plain baseline.

Posterior: none (a point). Decision: the smallest weights go, over the whole network or layer by layer,
along a schedule while training goes on. The survivors are put on a uniform grid chosen on the
validation split, as for every other method, so that the comparison is fair.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from laconic.bayes.prepare import check_model, weights_of
from laconic.errors import InputError, ModelError
from laconic.methods.contract import Compressed, Context, Judge, Method, schedule_left
from laconic.methods.grid_choice import GridChoice, choose_grid
from laconic.methods.masks import add_weight_masks, weight_masks_of, without_weight_masks
from laconic.methods.point import point_stats
from laconic.methods.rest import nonzeros, rest_of
from laconic.networks import duplicate
from laconic.sparsify.magnitude import cubic_sparsity, keep_largest
from laconic.sparsify.schedules import Schedule
from laconic.sparsify.timetables import check_schedule, share_gone


@dataclass(frozen=True)
class MagnitudePruning(Method):
    """Magnitude pruning.

    ``sparsity``: final share of zeros among weights. ``per_layer``: rank inside each tensor instead of over
    all. ``start``, ``end``: share of training between which the cubic schedule runs; ``epochs`` is what
    training is taken to last when the context does not know its total steps. ``every``: steps between
    two cuts. ``grid``: how the survivors are quantised. ``schedule``: another one in place of the cubic
    (:mod:`laconic.sparsify.timetables`).
    """

    sparsity: float = 0.95
    per_layer: bool = False
    start: float = 0.0
    end: float = 0.75
    epochs: float = 10.0
    every: int = 50
    grid: GridChoice = field(default_factory=GridChoice)
    schedule: Schedule | None = None

    def __post_init__(self) -> None:
        cubic_sparsity(0.0, self.sparsity, start=self.start, end=self.end)
        if self.every < 1 or not self.epochs > 0:
            raise InputError(f"every and epochs must be positive, got {self.every}, {self.epochs}")
        if self.schedule is not None:
            check_schedule(self.schedule, self.sparsity)

    def gone(self, progress: float) -> float:
        """The share of the weights that is zero at this share of training."""
        if self.schedule is not None:
            return share_gone(self.schedule, progress, self.sparsity)
        return cubic_sparsity(progress, self.sparsity, start=self.start, end=self.end)

    def prepare(self, model: nn.Module, example: Any, context: Context) -> nn.Module:
        """A copy that carries one keep-mask per weight tensor; frozen weights are not cut and have none."""
        check_model(model, example)
        net = duplicate(model)
        weights = weights_of(net, policy=context.policy)
        if not weights and not weights_of(net, policy=context.policy, frozen=True):
            raise ModelError(
                f"{type(model).__name__} has no weight to prune, or to put on a grid. "
                "Cure: requires_grad_(True) on some layer, or fewer names in keep"
            )
        add_weight_masks(net, weights)
        return net

    def step(self, module: nn.Module, context: Context) -> None:
        """Cut anew every ``every`` steps, and hold what is cut at zero after every step."""
        masks, weights = weight_masks_of(module), _cut(module)
        with torch.no_grad():
            if context.step % self.every == 0:
                arrays = {name: np.asarray((w * masks[name]).cpu()) for name, w in weights.items()}
                share = self.gone(context.progress(self.epochs))
                for name, keep in keep_largest(arrays, share, per_layer=self.per_layer).items():
                    masks[name].copy_(torch.from_numpy(keep))
            for name, weight in weights.items():
                weight.mul_(masks[name])

    def weights_left(self, module: nn.Module) -> dict[str, int]:
        """Weights of each tensor that are not cut yet."""
        return {name: int(mask.sum()) for name, mask in weight_masks_of(module).items()}

    def unfinished(self, context: Context) -> tuple[str, ...]:
        """A schedule that is not at its final sparsity."""
        return schedule_left(self._share(context), self.sparsity, "weights", context)

    def planned_epochs(self) -> float:
        """What training is taken to last."""
        return self.epochs

    def _share(self, context: Context) -> float:
        """The share to cut in the end: what the schedule has reached; all of it without training."""
        return self.gone(context.progress(self.epochs)) if context.step else self.sparsity

    def convert(self, module: nn.Module, context: Context, judge: Judge | None = None) -> Compressed:
        """Cut to the sparsity that the schedule has reached, and quantise the survivors."""
        kept = context.policy.keeps
        cut = {n: w for n, w in _cut(module).items() if not kept(n)}
        weights = {n: np.asarray(w.detach().cpu(), np.float32) for n, w in cut.items()}
        plain = without_weight_masks(duplicate(module))
        keeps = keep_largest(weights, self._share(context), per_layer=self.per_layer)
        stats = {n: point_stats(n, w * keeps[n]) for n, w in weights.items()}
        others = {n: p for n, p in plain.named_parameters() if n not in stats}
        rest = rest_of(plain, others, context.policy)
        stats, keeps = {**stats, **rest.frozen}, {**keeps, **nonzeros(rest.frozen)}
        return choose_grid(plain, stats, keeps, rest.beside, self.grid, judge, context.example)


def _cut(module: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that have a mask, by name; a layer that was frozen since is left as it is."""
    parameters = dict(module.named_parameters())
    return {name: parameters[name] for name in weight_masks_of(module) if parameters[name].requires_grad}
