r"""Structured pruning by the norm of a unit's weights (Li, Kadav, Durdanovic, Samet & Graf, ICLR 2017).

Posterior: none (a point). Decision: a unit's importance is the L1 norm of the weights that make it
(section 3.1),

.. math:: s_u = \sum_{w \in u} |w| \Big/ \sum_v \sum_{w \in v} |w|

as a share of that of the units v that are left in its group. The paper compares filters of one layer only,
and chooses by hand how many of each layer are removed; here one budget in multiply-accumulates serves all,
and with shares the last units of a layer are costly to remove. With ``norm=2`` it is the L2 norm (Wen et al.
2016). It needs no data. As in section 3.4 all units are removed at once and the network is retrained; other
schedules are possible.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from laconic.errors import InputError
from laconic.methods.common.unit_importance import Importance
from laconic.methods.common.unit_masks import unit_masks_of
from laconic.methods.common.unit_pruning import PRESETS, UnitPruning
from laconic.methods.registry import MethodEntry
from laconic.schedules import OneShot, Schedule
from laconic.sparsify.scores.common import GroupScores
from laconic.sparsify.scores.magnitude import l1_groups, l2_groups
from laconic.sparsify.scores.normalise import by_total, left_alone
from laconic.structure import Coupling


@dataclass(frozen=True)
class FilterPruning(UnitPruning):
    """Pruning of units by their norm.

    Args:
        macs: Share of the multiply-accumulates that stay, in (0, 1].
        schedule: Which share of the rest is removed by which point of training.
        min_units: Units that every group keeps.
        multiple: What unit counts are multiples of.
        inputs: Whether parts of the network's input may be removed, too.
        epochs: Length of training in epochs, where the context does not know its total steps.
        every: Steps between two cuts.
        grid: How the remaining weights are quantised (None: they stay float32).
        norm: 1 (sum of |w|) or 2 (root of the sum of w^2).

    Raises:
        InputError: A setting outside its bounds.

    >>> import laconic, torch
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> net = laconic.prepare(net, FilterPruning(0.5), torch.zeros(1, 4), data_size=100)
    >>> laconic.convert(net).module[0].out_features  # without training all is removed at once
    4
    """

    schedule: Schedule = OneShot(0.0)
    norm: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norm not in (1, 2):
            raise InputError(
                f"norm must be 1 (sum of |w|) or 2 (root of the sum of w^2), got {self.norm}. Cure: norm=1"
            )

    def importance(self) -> Importance:
        """Norms, as shares of their group's."""
        return Importance(self._shares)

    def _shares(self, module: nn.Module, coupling: Coupling) -> GroupScores:
        norms = (l1_groups if self.norm == 1 else l2_groups)(module, coupling)
        alive = {n: np.asarray(m.cpu()) for n, m in unit_masks_of(module, coupling).items()}
        return left_alone(norms, alive, by_total)


METHOD = MethodEntry(
    "filters",
    FilterPruning,
    presets=PRESETS,
    paper="Li, Kadav, Durdanovic, Samet & Graf, Pruning Filters for Efficient ConvNets, ICLR 2017",
)
