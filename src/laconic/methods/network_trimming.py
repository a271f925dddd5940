"""Network Trimming: structured pruning by the share of zeros (Hu, Peng, Tai & Tang, arXiv:1607.03250, 2016).

Posterior: none (a point). Decision: a unit is worth the share of its activations that are not zero, 1 - APoZ
(eq. 1), over all weights that read it, averaged over batches. The worst go in rounds, with training
between them. It tells units apart where activations can be zero, as after a ReLU; where they
cannot (tanh, a recurrent layer's state) all are worth 1 and go by what they cost:
:class:`laconic.methods.MeanActivationPruning` is for those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from laconic.methods.common.activation_pruning import ActivationPruning
from laconic.methods.common.unit_pruning import PRESETS
from laconic.methods.registry import MethodEntry
from laconic.schedules.sparsity import Iterative
from laconic.schedules.steps import Schedule
from laconic.sparsify.scores.activation import InputStats, apoz_groups
from laconic.sparsify.scores.common import GroupScores
from laconic.structure import Coupling


@dataclass(frozen=True)
class NetworkTrimming(ActivationPruning):
    """Pruning by the share of zeros; the fields are those of :class:`UnitPruning`, and ``memory``."""

    schedule: Schedule = field(default_factory=Iterative)

    def of_batch(self, coupling: Coupling, stats: Mapping[str, InputStats]) -> GroupScores:
        """1 - APoZ of one batch."""
        return apoz_groups(coupling, stats)


METHOD = MethodEntry(
    "apoz",
    NetworkTrimming,
    presets=PRESETS,
    paper="Hu, Peng, Tai & Tang, Network Trimming, 2016",
)
