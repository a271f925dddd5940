"""Magnitude pruning with a schedule, as a rule cubic (Han et al. 2015; Zhu & Gupta 2017).

Posterior: none (a point). Decision: the smallest weights are removed, over the whole network or layer by
layer, along a schedule while training goes on. The remaining weights are put on a uniform grid chosen on the
validation split, as for every other method, so that the comparison is fair.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from laconic.errors import InputError, ModelError
from laconic.methods.common.grid_choice import GridChoice, choose_grid
from laconic.methods.common.masks import (
    add_weight_masks,
    weight_masks_of,
    without_weight_masks,
)
from laconic.methods.common.point import point_stats
from laconic.methods.common.rest import nonzeros, rest_of
from laconic.methods.contract import Compressed, Context, Judge, Method, schedule_left
from laconic.methods.registry import MethodEntry
from laconic.networks import duplicate
from laconic.networks.policy import weights_of
from laconic.networks.probe import check_model
from laconic.schedules import Cubic, Schedule, check_schedule, removed_share
from laconic.sparsify.selection.weights import Masks, check_sparsity, keep_best


@dataclass(frozen=True)
class MagnitudePruning(Method):
    """Magnitude pruning: the weights of the smallest :math:`|w|` are removed (Han et al. 2015, section 3).

    Args:
        sparsity: Final share of zeros among weights, in [0, 1).
        per_layer: Whether weights are ranked inside each tensor instead of over all.
        schedule: Which share is removed by which point of training (:mod:`laconic.schedules`, or a function
            of one's own); by default the cubic one of Zhu & Gupta 2017, eq. 1.
        epochs: Length of training in epochs, where the context does not know its total steps.
        every: Steps between two cuts.
        grid: How the remaining weights are quantised.

    Raises:
        InputError: A setting outside its bounds, or a schedule that does not end at ``sparsity``.

    >>> import laconic
    >>> net = laconic.prepare(nn.Linear(8, 4), MagnitudePruning(0.75), torch.zeros(1, 8), data_size=100)
    >>> laconic.convert(net).tensors["weight"].nonzeros()  # without training all is removed at once
    8
    """

    sparsity: float = 0.95
    per_layer: bool = False
    schedule: Schedule = Cubic(end=0.75)
    epochs: float = 10.0
    every: int = 50
    grid: GridChoice = field(default_factory=GridChoice)

    gentler = "lower sparsity"
    smaller = "higher sparsity, coarser grid.steps"

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)
        if self.every < 1 or not self.epochs > 0:
            raise InputError(
                f"every and epochs must be positive, got {self.every}, {self.epochs}. Cure: every=50"
            )
        check_schedule(self.schedule, self.sparsity)

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
            if weights and context.step % self.every == 0:
                magnitudes = {name: (w * masks[name]).abs() for name, w in weights.items()}
                for name, keep in self._keeps(magnitudes, self._removed(context)).items():
                    masks[name].copy_(torch.from_numpy(keep))
            for name, weight in weights.items():
                weight.mul_(masks[name])

    def weights_left(self, module: nn.Module) -> dict[str, int]:
        """Weights of each tensor that are not zero: neither cut yet nor removed by an earlier stage."""
        masks, parameters = weight_masks_of(module), dict(module.named_parameters())
        return {name: int((mask & (parameters[name] != 0)).sum()) for name, mask in masks.items()}

    def unfinished(self, context: Context) -> tuple[str, ...]:
        """A schedule that is not at its final sparsity."""
        return schedule_left(self._reached(context), self.sparsity, "weights", context)

    def planned_epochs(self) -> float:
        """What training is taken to last."""
        return self.epochs

    def convert(self, module: nn.Module, context: Context, judge: Judge | None = None) -> Compressed:
        """Cut to the sparsity that the schedule has reached, and quantise the rest."""
        kept = context.policy.keeps
        weights = {n: w.detach().cpu() for n, w in _cut(module).items() if not kept(n)}
        plain = without_weight_masks(duplicate(module))
        keeps = self._keeps({n: w.abs() for n, w in weights.items()}, self._reached(context))
        stats = {n: point_stats(n, np.asarray(w, np.float32) * keeps[n]) for n, w in weights.items()}
        others = {n: p for n, p in plain.named_parameters() if n not in stats}
        rest = rest_of(plain, others, context.policy)
        stats, keeps = {**stats, **rest.frozen}, {**keeps, **nonzeros(rest.frozen)}
        return choose_grid(plain, stats, keeps, rest.beside, self.grid, judge, context.example)

    def _keeps(self, magnitudes: dict[str, torch.Tensor], share: float) -> Masks:
        return keep_best(magnitudes, share, per_layer=self.per_layer) if magnitudes else {}

    def _removed(self, context: Context) -> float:
        """The share of the weights that is zero where training stands."""
        return removed_share(self.schedule, context.progress(self.epochs), self.sparsity)

    def _reached(self, context: Context) -> float:
        """The share to cut in the end: what the schedule has reached; all of it without training."""
        return self._removed(context) if context.step else self.sparsity


def _cut(module: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that have a mask, by name; a layer that was frozen since is left as it is."""
    parameters = dict(module.named_parameters())
    return {name: parameters[name] for name in weight_masks_of(module) if parameters[name].requires_grad}


_SHORT = {"fit.epochs": 8, "reference.epochs": 3}

METHOD = MethodEntry(
    "magnitude",
    MagnitudePruning,
    presets={
        "full": {"": {"fit.epochs": 20}},
        "demo": {"lenet5": _SHORT, "lenet300": _SHORT, "": {"fit.epochs": 8}},
    },
    paper="Han et al., Learning both Weights and Connections, NIPS 2015; Zhu & Gupta, To Prune or Not, 2017",
)
