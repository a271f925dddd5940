r"""Structured pruning by the norm of a unit's weights (Li, Kadav, Durdanovic, Samet & Graf, ICLR 2017).

Posterior: none (a point). Decision: importance is the L1 norm of the weights that make it (section 3.1),

.. math:: s_u = \sum_{w \in u} |w| \Big/ \sum_v \sum_{w \in v} |w|

as a share of that of the units v that are left in its group. The paper compares filters of one layer only,
and chooses how many of each layer go by hand; here one budget in multiply-accumulates serves all, and shares
make the last units of a layer dear. With ``norm=2`` it is the L2 norm (Wen et al. 2016). It looks at no data.
As in section 3.4 all go at once and the network is retrained; any other schedule can be handed in.
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
    """Pruning of units by their norm; the other fields are those of :class:`UnitPruning`.

    Args:
        norm: 1 (sum of |w|) or 2 (root of the sum of w^2).
    """

    schedule: Schedule = OneShot(0.0)
    norm: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norm not in (1, 2):
            raise InputError(f"norm must be 1 (sum of |w|) or 2 (root of the sum of w^2), got {self.norm}")

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
