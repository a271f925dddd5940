"""Network Trimming: structured pruning by the share of zeros (Hu, Peng, Tai & Tang, arXiv:1607.03250, 2016).

Posterior: none (a point). Decision: a unit's importance is the share of its activations that are not zero,
1 - APoZ (eq. 1), over all weights that read it, averaged over batches. The least important are removed in
rounds, with training between them. Units differ where activations can be zero, as after a ReLU. Where they
cannot (tanh, a recurrent layer's state) all have importance 1, and the removal order follows their cost: use
:class:`laconic.methods.MeanActivationPruning` there.
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
    """Pruning by the share of zeros.

    Args:
        macs: Share of the multiply-accumulates that stay, in (0, 1].
        schedule: Which share of the rest is removed by which point of training.
        min_units: Units that every group keeps.
        multiple: What unit counts are multiples of.
        inputs: Whether parts of the network's input may be removed, too.
        epochs: Length of training in epochs, where the context does not know its total steps.
        every: Steps between two cuts.
        grid: How the remaining weights are quantised (None: they stay float32).
        memory: Weight of the past in the running average of shares, in [0, 1).

    Raises:
        InputError: A setting outside its bounds.

    >>> import laconic, torch
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> net = laconic.prepare(net, NetworkTrimming(0.5), torch.zeros(1, 4), data_size=100)
    >>> laconic.convert(net).module[0].out_features  # without training all is removed at once
    4
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
