"""How important each unit is: what a method that prunes units hands to the engine, as functions.

A method says it in one record, :class:`Importance`. The functions here make the usual ones: an average over
the batches of training, of gradients or of activations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from laconic.errors import InputError
from laconic.methods.common.unit_masks import add_averages, average_in, averages_of
from laconic.methods.contract import Context
from laconic.sparsify.scores.activation import InputStats, gather_inputs, is_read
from laconic.sparsify.scores.common import GroupScores
from laconic.structure import Coupling
from laconic.structure.coupling.groups import left_whole

ScoreUnits = Callable[[nn.Module, Coupling], GroupScores]
OfActivations = Callable[[Coupling, Mapping[str, InputStats]], GroupScores]

_INPUTS = "_laconic_noted"


def _nothing(*_: Any) -> None:
    """A step that a method does not need."""


def all_groups(net: nn.Module, coupling: Coupling, inputs: tuple[Tensor, ...]) -> Coupling:
    """Every group can be scored."""
    return coupling


@dataclass(frozen=True, eq=False)
class Importance:
    """How important units are, and what is needed to know it.

    Args:
        of: ``of(net, coupling)`` returns one number >= 0 for each unit of each group, higher = keep. Groups
            that it does not name stay whole; numbers of removed units are ignored.
        scorable: ``scorable(net, coupling, inputs)`` returns the groups that can be scored, with a note on
            each other one.
        attach: ``attach(net, coupling, context)`` adds the buffers and hooks that ``of`` needs to a network
            that is being prepared.
        observe: ``observe(net, coupling, pending)`` is called after each batch, with its gradients still
            there; ``pending`` says whether units are still to be removed.
        detach: ``detach(net)`` takes the hooks off a copy that is about to be shrunk.
    """

    of: ScoreUnits
    scorable: Callable[[nn.Module, Coupling, tuple[Tensor, ...]], Coupling] = all_groups
    attach: Callable[[nn.Module, Coupling, Context], None] = _nothing
    observe: Callable[[nn.Module, Coupling, bool], None] = _nothing
    detach: Callable[[nn.Module], None] = _nothing


def averaged(batch_score: ScoreUnits, memory: float, *, of: ScoreUnits = averages_of) -> Importance:
    r"""A running average over the batches of training, :math:`a \leftarrow m a + (1 - m) s`.

    Args:
        batch_score: The score s of each unit by the batch that was just trained on.
        memory: m, the weight of the past, in [0, 1); 0 uses the last batch alone.
        of: Importance from the network with its averages; by default the averages themselves.
    """

    def attach(net: nn.Module, coupling: Coupling, context: Context) -> None:
        add_averages(net, coupling)

    def observe(net: nn.Module, coupling: Coupling, pending: bool) -> None:
        average_in(net, coupling, batch_score(net, coupling), memory)

    return Importance(of, attach=attach, observe=observe)


def check_memory(memory: float) -> None:
    """Raises InputError unless the weight of the past lies in [0, 1)."""
    if not 0 <= memory < 1:
        raise InputError(f"memory, the weight of the past, must lie in [0, 1), got {memory}. Cure: 0.9")


# --- activations --------------------------------------------------------------------------------------


def averaged_activations(
    batch_score: OfActivations, memory: float, *, of: ScoreUnits = averages_of
) -> Importance:
    """A running average of a statistic of activations: each batch is run a second time, in evaluation mode.

    While the network trains, a forward hook keeps its inputs. After the optimiser's step they run through it
    again in evaluation mode and without gradients, since dropout would count as zeros and the batch
    statistics of a batch norm are not those of the final network. This costs a forward pass a step until the
    last unit is removed.

    Args:
        batch_score: The score of each unit by what was read of it in one batch.
        memory: The weight of the past, in [0, 1).
        of: Importance from the network with its averages; by default the averages themselves.
    """
    plain = averaged(
        lambda net, coupling: batch_score(coupling, _statistics(net, _taken(net))), memory, of=of
    )

    def attach(net: nn.Module, coupling: Coupling, context: Context) -> None:
        plain.attach(net, coupling, context)
        net.register_forward_pre_hook(_keep_inputs, with_kwargs=True)

    def observe(net: nn.Module, coupling: Coupling, pending: bool) -> None:
        if pending and _INPUTS in net.__dict__:
            plain.observe(net, coupling, pending)
        net.__dict__.pop(_INPUTS, None)

    return replace(plain, scorable=_that_are_read, attach=attach, observe=observe, detach=_without_hook)


def _that_are_read(net: nn.Module, coupling: Coupling, inputs: tuple[Tensor, ...]) -> Coupling:
    """Groups that some weight reads (of a product of two activations there is nothing to see)."""
    stats = _statistics(net, (inputs, {}))
    unread = tuple(g.name for g in coupling.groups if not is_read(g, stats))
    return left_whole(coupling, unread, "no weight reads its units, so their activations are not seen")


def _keep_inputs(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Forward pre-hook: keep the inputs of a training batch until the step that follows it."""
    if module.training:
        module.__dict__[_INPUTS] = tree_map_only(Tensor, Tensor.detach, (args, kwargs))


def _taken(net: nn.Module) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The inputs that the hook kept, taken off, so that running the network again does not meet them."""
    kept: tuple[tuple[Any, ...], dict[str, Any]] = net.__dict__.pop(_INPUTS)
    return kept


def _statistics(net: nn.Module, call: tuple[tuple[Any, ...], dict[str, Any]]) -> dict[str, InputStats]:
    return gather_inputs(net, [call], forward=lambda module, given: module(*given[0], **given[1]))


def _without_hook(net: nn.Module) -> None:
    """Take the hook off, and what it kept."""
    net.__dict__.pop(_INPUTS, None)
    for key in [k for k, hook in net._forward_pre_hooks.items() if hook is _keep_inputs]:
        del net._forward_pre_hooks[key]
        net._forward_pre_hooks_with_kwargs.pop(key, None)
