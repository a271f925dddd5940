"""Network Trimming: structured pruning by the share of zeros (Hu, Peng, Tai & Tang, arXiv:1607.03250, 2016).

Posterior: none (a point). Decision: importance is the share of its activations that are not zero, 1 - APoZ
(eq. 1), over all weights that read it, averaged over batches. The worst go in rounds, with training
between them. It tells units apart where activations can be zero, as after a ReLU; where they
cannot (tanh, a recurrent layer's state) all have importance 1 and the removal order follows their cost:
:class:`laconic.methods.MeanActivationPruning` is for those.
"""

from __future__ import annotations

from dataclasses import dataclass

from laconic.methods.common.unit_importance import Importance, averaged_activations, check_memory
from laconic.methods.common.unit_pruning import PRESETS, UnitPruning
from laconic.methods.registry import MethodEntry
from laconic.schedules import Iterative, Schedule
from laconic.sparsify.scores.activation import apoz_groups


@dataclass(frozen=True)
class NetworkTrimming(UnitPruning):
    """Pruning by the share of zeros; the other fields are those of :class:`UnitPruning`.

    Args:
        memory: Weight of the past in the running average of shares, in [0, 1).
    """

    schedule: Schedule = Iterative()
    memory: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        check_memory(self.memory)

    def importance(self) -> Importance:
        """1 - APoZ, averaged over batches."""
        return averaged_activations(apoz_groups, self.memory)


METHOD = MethodEntry(
    "apoz",
    NetworkTrimming,
    presets=PRESETS,
    paper="Hu, Peng, Tai & Tang, Network Trimming, 2016",
)
