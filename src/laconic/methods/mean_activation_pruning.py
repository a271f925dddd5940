r"""Structured pruning by mean activation (Molchanov, Tyree, Karras, Aila & Kautz, ICLR 2017, section 2.2).

Posterior: none (a point). Decision: importance is its mean absolute activation over all weights that read
it, averaged over batches and made comparable between layers as in the paper,

.. math:: s_u = \bar{a}_u \Big/ \sqrt{\textstyle\sum_v \bar{a}_v^2}

over the units that are left in its group. The paper removes few units at a time with updates between them,
hence the many small rounds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from laconic.methods.common.unit_importance import Importance, averaged_activations, check_memory
from laconic.methods.common.unit_masks import averages_of, unit_masks_of
from laconic.methods.common.unit_pruning import PRESETS, UnitPruning
from laconic.methods.registry import MethodEntry
from laconic.schedules import Iterative, Schedule
from laconic.sparsify.scores.activation import mean_activation_groups
from laconic.sparsify.scores.common import GroupScores
from laconic.sparsify.scores.normalise import by_norm, left_alone
from laconic.structure import Coupling


@dataclass(frozen=True)
class MeanActivationPruning(UnitPruning):
    """Pruning by mean activation; the other fields are those of :class:`UnitPruning`.

    Args:
        memory: Weight of the past in the running average of activations, in [0, 1).
    """

    schedule: Schedule = Iterative(20)
    memory: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        check_memory(self.memory)

    def importance(self) -> Importance:
        """Mean absolute activations, averaged over batches, over the norm of the group's."""
        return averaged_activations(mean_activation_groups, self.memory, of=_over_norms)


def _over_norms(module: nn.Module, coupling: Coupling) -> GroupScores:
    alive = {n: np.asarray(m.cpu()) for n, m in unit_masks_of(module, coupling).items()}
    return left_alone(averages_of(module, coupling), alive, by_norm)


METHOD = MethodEntry(
    "mean-activation",
    MeanActivationPruning,
    presets=PRESETS,
    paper="Molchanov, Tyree, Karras, Aila & Kautz, Pruning Convolutional Neural Networks, ICLR 2017",
)
