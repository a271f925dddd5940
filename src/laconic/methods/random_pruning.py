"""Random structured pruning, the baseline (Mittal, Bhardwaj, Khapra & Ravindran, WACV 2018).

Posterior: none (a point). Decision: every unit gets an importance uniform in [0, 1) once, when the network is
prepared; those of the least importance per multiply-accumulate saved are removed. A score is useful as far as
it does better than this one under the same schedule and budget, since fine-tuning alone recovers much.
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
    """Pruning of units drawn at random.

    Args:
        macs: Share of the multiply-accumulates that stay, in (0, 1].
        schedule: Which share of the rest is removed by which point of training.
        min_units: Units that every group keeps.
        multiple: What unit counts are multiples of.
        inputs: Whether parts of the network's input may be removed, too.
        epochs: Length of training in epochs, where the context does not know its total steps.
        every: Steps between two cuts.
        grid: How the remaining weights are quantised (None: they stay float32).

    Raises:
        InputError: A setting outside its bounds.

    >>> import laconic, torch
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> net = laconic.prepare(net, RandomPruning(0.5), torch.zeros(1, 4), data_size=100)
    >>> laconic.convert(net).module[0].out_features  # without training all is removed at once
    4
    """

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
