"""What methods that prune by activations share: each training batch is looked at once more, at rest.

While it trains, the network's inputs are noted by a forward hook. After the optimiser's step they run through
it again in evaluation mode and without gradients, and what each weight reads is seen (dropout would count as
zeros, and a batch norm's batch statistics are not those that will run). That costs a forward pass a step, as
long as something is still to go.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from laconic.methods.common.unit_masks import average_in
from laconic.methods.common.unit_pruning import AveragedPruning
from laconic.methods.contract import Context
from laconic.sparsify.scores.activation import InputStats, gather_inputs, is_read
from laconic.sparsify.scores.common import GroupScores
from laconic.structure import Coupling
from laconic.structure.coupling.groups import left_whole

_NOTED = "_laconic_noted"


@dataclass(frozen=True)
class ActivationPruning(AveragedPruning):
    """Pruning by statistics of activations; the fields are those of :class:`UnitPruning`, and ``memory``."""

    @abstractmethod
    def of_batch(self, coupling: Coupling, stats: Mapping[str, InputStats]) -> GroupScores:
        """The score of each unit by what was read of it in one batch."""

    def scored(self, net: nn.Module, coupling: Coupling, inputs: tuple[Tensor, ...]) -> Coupling:
        """Groups that some weight reads (of a product of two activations there is nothing to see)."""
        stats = _read(net, (inputs, {}))
        unread = tuple(g.name for g in coupling.groups if not is_read(g, stats))
        return left_whole(coupling, unread, "no weight reads its units, so their activations are not seen")

    def remember(self, net: nn.Module, coupling: Coupling, inputs: tuple[Tensor, ...], seen: Context) -> None:
        """One average a unit, and a hook."""
        super().remember(net, coupling, inputs, seen)
        net.register_forward_pre_hook(_note, with_kwargs=True)

    def learn(self, module: nn.Module, coupling: Coupling) -> None:
        """Average in what the last training batch's activations are now."""
        noted = module.__dict__.pop(_NOTED, None)
        if noted is not None and self.above_target(module):
            average_in(module, coupling, self.of_batch(coupling, _read(module, noted)), self.memory)

    def forget(self, net: nn.Module) -> None:
        """Take the hook off, and what it noted."""
        net.__dict__.pop(_NOTED, None)
        for key in [k for k, hook in net._forward_pre_hooks.items() if hook is _note]:
            del net._forward_pre_hooks[key]
            net._forward_pre_hooks_with_kwargs.pop(key, None)


def _note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Forward pre-hook: keep the inputs of a training batch until the step that follows it."""
    if module.training:
        module.__dict__[_NOTED] = tree_map_only(Tensor, Tensor.detach, (args, kwargs))


def _read(net: nn.Module, call: tuple[tuple[Any, ...], dict[str, Any]]) -> dict[str, InputStats]:
    return gather_inputs(net, [call], forward=lambda module, given: module(*given[0], **given[1]))
