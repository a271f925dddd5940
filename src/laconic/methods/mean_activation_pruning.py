r"""Structured pruning by mean activation (Molchanov, Tyree, Karras, Aila & Kautz, ICLR 2017, section 2.2).

Posterior: none (a point). Decision: a unit's importance is its mean absolute activation over all weights that
read it, averaged over batches and made comparable between layers as in the paper,

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
    """Pruning by mean activation.

    Args:
        macs: Share of the multiply-accumulates that stay, in (0, 1].
        schedule: Which share of the rest is removed by which point of training.
        min_units: Units that every group keeps.
        multiple: What unit counts are multiples of.
        inputs: Whether parts of the network's input may be removed, too.
        epochs: Length of training in epochs, where the context does not know its total steps.
        every: Steps between two cuts.
        grid: How the remaining weights are quantised (None: they stay float32).
        memory: Weight of the past in the running average of activations, in [0, 1).

    Raises:
        InputError: A setting outside its bounds.

    >>> import laconic, torch
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> net = laconic.prepare(net, MeanActivationPruning(0.5), torch.zeros(1, 4), data_size=100)
    >>> laconic.convert(net).module[0].out_features  # without training all is removed at once
    4
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
