r"""Structured pruning by a diagonal Fisher (Theis, Korshunova, Tejani & Huszar, arXiv:1801.05787, 2018).

Posterior: none (a point). Decision: a unit's importance is the rise of the loss to second order when it is
removed, with squared gradients in the place of the curvature, as in Optimal Brain Damage (LeCun, Denker &
Solla, NIPS 1990):

.. math:: s_u = \frac12 \sum_{w \in u} \mathbb{E}\,[g_w^2]\, w^2

over the weights that read the unit, averaged over batches. Unlike in first-order importance
(:class:`laconic.methods.TaylorPruning`), the terms of a unit cannot cancel. g is the gradient of a batch's
mean loss: in expectation its square is that of the examples over the batch size where their gradients cancel,
the same factor for all units. The published method removes one feature map every few updates, hence the many
small rounds, and divides by the cost saved as the budget here does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn

from laconic.methods.common.gradient_scores import products_of, sums_by_unit, with_gradients
from laconic.methods.common.unit_importance import Importance, averaged, check_memory
from laconic.methods.common.unit_pruning import PRESETS, UnitPruning
from laconic.methods.registry import MethodEntry
from laconic.schedules import Iterative, Schedule
from laconic.sparsify.scores.common import GroupScores
from laconic.structure import Coupling


@dataclass(frozen=True)
class FisherPruning(UnitPruning):
    """Pruning by a diagonal Fisher.

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
    >>> net = laconic.prepare(net, FisherPruning(0.5), torch.zeros(1, 4), data_size=100)
    >>> laconic.convert(net).module[0].out_features  # without training all is removed at once
    4
    """

    schedule: Schedule = Iterative(20)
    memory: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        check_memory(self.memory)

    def importance(self) -> Importance:
        """Half of the squared gradients of each batch times the squared weights, averaged."""
        return replace(averaged(_rises, self.memory), scorable=with_gradients)


def _rises(module: nn.Module, coupling: Coupling) -> GroupScores:
    rises = {name: 0.5 * product.double().square() for name, product in products_of(module).items()}
    return sums_by_unit(module, coupling, rises)


METHOD = MethodEntry(
    "fisher",
    FisherPruning,
    presets=PRESETS,
    paper="Theis, Korshunova, Tejani & Huszar, Faster Gaze Prediction with Dense Networks, 2018",
)
