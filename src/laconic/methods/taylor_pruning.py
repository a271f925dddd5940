r"""Structured pruning by first-order importance (Molchanov, Mallya, Tyree, Frosio & Kautz, CVPR 2019).

Posterior: none (a point). Decision: units of coupled groups (channels with all that reads and normalises
them, hidden units, heads) go by the squared change of the loss that their removal would make to first order,

.. math:: I_u = \Big(\sum_{w \in u} g_w w\Big)^2

(section 3.1, joint over the weights that read the unit), averaged over batches, per multiply-accumulate
saved. They go bit by bit while training goes on, along a cubic schedule in MACs; at the end the network is
shrunk, not masked. The survivors are put on a grid as for every other method.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from laconic.methods.common.gradient_scores import products_of, sums_by_unit, with_gradients
from laconic.methods.common.grid_choice import GridChoice
from laconic.methods.common.unit_masks import add_averages, average_in, averages_of
from laconic.methods.common.unit_pruning import PRESETS, UnitPruner, check_memory
from laconic.methods.contract import Context
from laconic.methods.registry import MethodEntry
from laconic.schedules.sparsity import check_schedule, share_gone
from laconic.schedules.steps import Schedule, cubic_sparsity
from laconic.sparsify.scores.common import GroupScores
from laconic.structure import Coupling


@dataclass(frozen=True)
class TaylorPruning(UnitPruner):
    """First-order structured pruning.

    ``macs``: share of the multiply-accumulates that stay. ``floor``: units that every group keeps; with 0
    whole branches may go where another way around them is left. ``multiple``: units are kept in multiples
    of so many, the lanes of a kernel: what removes fewer saves no time.
    ``inputs``: whether parts of the network's input may go, too. ``start``, ``end``: share of training
    between which the cubic schedule runs; ``epochs`` is what training is taken to last when the context does
    not know its total steps. ``every``: steps between two cuts. ``memory``: weight of the past in the running
    average of importance. ``grid``: how the survivors are quantised (None: they stay float32, to be trained
    further). ``schedule``: another one in place of the cubic (:mod:`laconic.schedules.sparsity`).
    """

    macs: float = 0.5
    floor: int = 1
    multiple: int = 1
    inputs: bool = False
    start: float = 0.0
    end: float = 0.6
    epochs: float = 10.0
    every: int = 20
    memory: float = 0.9
    grid: GridChoice | None = field(default_factory=GridChoice)
    schedule: Schedule | None = None

    def __post_init__(self) -> None:
        self._check_limits()
        check_memory(self.memory)
        self.gone(0.0)
        if self.schedule is not None:
            check_schedule(self.schedule, 1.0 - self.macs)

    def gone(self, progress: float) -> float:
        """The share of the multiply-accumulates that is gone at this share of training."""
        if self.schedule is not None:
            return share_gone(self.schedule, progress, 1.0 - self.macs)
        return cubic_sparsity(progress, 1.0 - self.macs, start=self.start, end=self.end)

    def scored(self, net: nn.Module, coupling: Coupling, inputs: tuple[Tensor, ...]) -> Coupling:
        """Groups with a weight that is not frozen."""
        return with_gradients(net, coupling)

    def remember(self, net: nn.Module, coupling: Coupling, inputs: tuple[Tensor, ...], seen: Context) -> None:
        """One average a unit."""
        add_averages(net, coupling)

    def learn(self, module: nn.Module, coupling: Coupling) -> None:
        """Average in the squared change of the loss that this batch's gradient foretells."""
        changes = sums_by_unit(module, coupling, products_of(module))
        squares = {name: change**2 for name, change in changes.items()}
        average_in(module, coupling, squares, self.memory)

    def worth(self, module: nn.Module, coupling: Coupling) -> GroupScores:
        """Averaged importance."""
        return averages_of(module, coupling)


METHOD = MethodEntry(
    "taylor",
    TaylorPruning,
    presets=PRESETS,
    paper="Molchanov et al., Importance Estimation for Neural Network Pruning, CVPR 2019",
)
