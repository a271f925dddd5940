r"""Structured pruning by a diagonal Fisher (Theis, Korshunova, Tejani & Huszar, arXiv:1801.05787, 2018).

Posterior: none (a point). Decision: a unit is worth the rise of the loss to second order when it goes, with
the squared gradients in the place of the curvature, as in Optimal Brain Damage (LeCun, Denker & Solla, NIPS
1990):

.. math:: s_u = \frac12 \sum_{w \in u} \mathbb{E}\,[g_w^2]\, w^2

over the weights that read the unit, averaged over batches. Unlike first-order importance
(:class:`laconic.methods.TaylorPruning`) the terms of a unit cannot cancel. g is the gradient of a batch's
mean loss: in expectation its square is that of the examples over the batch size where their gradients cancel,
the same factor for all units. The published method removes one feature map every few updates, hence the many
small rounds, and divides by the cost saved as the budget here does.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from laconic.methods.common.gradient_scores import products_of, sums_by_unit, with_gradients
from laconic.methods.common.unit_masks import average_in
from laconic.methods.common.unit_pruning import PRESETS, AveragedPruning
from laconic.methods.registry import MethodEntry
from laconic.schedules.sparsity import Iterative
from laconic.schedules.steps import Schedule
from laconic.structure import Coupling


@dataclass(frozen=True)
class FisherPruning(AveragedPruning):
    """Pruning by a diagonal Fisher; the fields are those of :class:`UnitPruning`, and ``memory``."""

    schedule: Schedule = field(default_factory=lambda: Iterative(20))

    def scored(self, net: nn.Module, coupling: Coupling, inputs: tuple[Tensor, ...]) -> Coupling:
        """Groups with a weight that is not frozen."""
        return with_gradients(net, coupling)

    def learn(self, module: nn.Module, coupling: Coupling) -> None:
        """Average in the squared gradients of this batch, times the squared weights."""
        rises = {name: 0.5 * product.double().square() for name, product in products_of(module).items()}
        average_in(module, coupling, sums_by_unit(module, coupling, rises), self.memory)


METHOD = MethodEntry(
    "fisher",
    FisherPruning,
    presets=PRESETS,
    paper="Theis, Korshunova, Tejani & Huszar, Faster Gaze Prediction with Dense Networks, 2018",
)
