r"""Structured pruning by first-order importance (Molchanov, Mallya, Tyree, Frosio & Kautz, CVPR 2019).

Posterior: none (a point). Decision: units of coupled groups (channels with all that reads and normalises
them, hidden units, heads) are removed by the squared change of the loss that this makes to first order,

.. math:: I_u = \Big(\sum_{w \in u} g_w w\Big)^2

(section 3.1, joint over the weights that read the unit), averaged over batches, per multiply-accumulate
saved. They are removed in small cuts while training goes on, along a cubic schedule in MACs. At the end the
network is shrunk, not masked. The remaining weights are put on a grid as for every other method.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn

from laconic.methods.common.gradient_scores import products_of, sums_by_unit, with_gradients
from laconic.methods.common.unit_importance import Importance, averaged, check_memory
from laconic.methods.common.unit_pruning import PRESETS, UnitPruning
from laconic.methods.registry import MethodEntry
from laconic.sparsify.scores.common import GroupScores
from laconic.structure import Coupling


@dataclass(frozen=True)
class TaylorPruning(UnitPruning):
    """First-order structured pruning.

    Args:
        macs: Share of the multiply-accumulates that stay, in (0, 1].
        schedule: Which share of the rest is removed by which point of training.
        min_units: Units that every group keeps.
        multiple: What unit counts are multiples of.
        inputs: Whether parts of the network's input may be removed, too.
        epochs: Length of training in epochs, where the context does not know its total steps.
        every: Steps between two cuts.
        grid: How the remaining weights are quantised (None: they stay float32).
        memory: Weight of the past in the running average of importance, in [0, 1).

    Raises:
        InputError: A setting outside its bounds.

    >>> import laconic, torch
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> net = laconic.prepare(net, TaylorPruning(0.5), torch.zeros(1, 4), data_size=100)
    >>> laconic.convert(net).module[0].out_features  # without training all is removed at once
    4
    """

    memory: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        check_memory(self.memory)

    def importance(self) -> Importance:
        """The squared change of the loss that each batch's gradient foretells, averaged."""
        return replace(averaged(_squared_changes, self.memory), scorable=with_gradients)


def _squared_changes(module: nn.Module, coupling: Coupling) -> GroupScores:
    changes = sums_by_unit(module, coupling, products_of(module))
    return {name: change**2 for name, change in changes.items()}


METHOD = MethodEntry(
    "taylor",
    TaylorPruning,
    presets=PRESETS,
    paper="Molchanov et al., Importance Estimation for Neural Network Pruning, CVPR 2019",
)
