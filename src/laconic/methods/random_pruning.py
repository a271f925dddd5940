"""Random structured pruning, the baseline (Mittal, Bhardwaj, Khapra & Ravindran, WACV 2018).

Posterior: none (a point). Decision: every unit gets an importance uniform in [0, 1) once, when the network is
prepared, and goes by it per multiply-accumulate saved. Whatever another score is good for must show against
this one, under the same schedule and budget: much of what pruning keeps is the fine-tuning's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from laconic.methods.common.unit_importance import Importance
from laconic.methods.common.unit_masks import add_averages, average_in, averages_of
from laconic.methods.common.unit_pruning import PRESETS, UnitPruning
from laconic.methods.contract import Context
from laconic.methods.registry import MethodEntry
from laconic.structure import Coupling


@dataclass(frozen=True)
class RandomPruning(UnitPruning):
    """Pruning of units drawn at random; the fields are those of :class:`UnitPruning`."""

    def importance(self) -> Importance:
        """What was drawn when the network was prepared."""
        return Importance(averages_of, attach=_draw)


def _draw(net: nn.Module, coupling: Coupling, context: Context) -> None:
    """Draw each unit's importance from the context's noise."""
    add_averages(net, coupling)
    generator = context.noise.generator()
    drawn = {g.name: torch.rand(g.size, generator=generator).numpy() for g in coupling.groups}
    average_in(net, coupling, drawn, memory=0.0)


METHOD = MethodEntry(
    "random",
    RandomPruning,
    presets=PRESETS,
    paper="Mittal, Bhardwaj, Khapra & Ravindran, Recovering from Random Pruning, WACV 2018",
)
