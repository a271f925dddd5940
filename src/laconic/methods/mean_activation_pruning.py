r"""Structured pruning by mean activation (Molchanov, Tyree, Karras, Aila & Kautz, ICLR 2017, section 2.2).

Posterior: none (a point). Decision: a unit is worth its mean absolute activation over all weights that read
it, averaged over batches and made comparable between layers as in the paper,

.. math:: s_u = \bar{a}_u \Big/ \sqrt{\textstyle\sum_v \bar{a}_v^2}

over the units that are left in its group. The paper removes few units at a time with updates between them,
hence the many small rounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from laconic.methods.common.activation_pruning import ActivationPruning
from laconic.methods.common.unit_masks import averages_of, masks_of
from laconic.methods.common.unit_pruning import PRESETS
from laconic.methods.registry import MethodEntry
from laconic.schedules.sparsity import Iterative
from laconic.schedules.steps import Schedule
from laconic.sparsify.scores.activation import InputStats, mean_activation_groups
from laconic.sparsify.scores.common import GroupScores
from laconic.sparsify.scores.normalise import by_norm, left_alone
from laconic.structure import Coupling


@dataclass(frozen=True)
class MeanActivationPruning(ActivationPruning):
    """Pruning by mean activation; the fields are those of :class:`UnitPruning`, and ``memory``."""

    schedule: Schedule = field(default_factory=lambda: Iterative(20))

    def of_batch(self, coupling: Coupling, stats: Mapping[str, InputStats]) -> GroupScores:
        """Mean absolute activation in one batch."""
        return mean_activation_groups(coupling, stats)

    def worth(self, module: nn.Module, coupling: Coupling) -> GroupScores:
        """Averaged activation, over the norm of the group's."""
        alive = {n: np.asarray(m.cpu()) for n, m in masks_of(module, coupling).items()}
        return left_alone(averages_of(module, coupling), alive, by_norm)


METHOD = MethodEntry(
    "mean-activation",
    MeanActivationPruning,
    presets=PRESETS,
    paper="Molchanov, Tyree, Karras, Aila & Kautz, Pruning Convolutional Neural Networks, ICLR 2017",
)
