"""What methods that prune by gradients share: gradient times weight, summed over the weights of a unit.

A unit is removed without the weights that read it, so they are summed; where these are frozen and have no
gradient, those that make it are. A group that is frozen on both sides is left whole.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from laconic.sparsify.scores.aggregate import Members, producers, readers, unit_scores
from laconic.sparsify.scores.common import GroupScores
from laconic.structure import Coupling, Group
from laconic.structure.coupling.groups import left_whole


def products_of(module: nn.Module) -> dict[str, Tensor]:
    """Gradient times weight of every parameter that has a gradient, scalars left out."""
    return {n: p * p.grad for n, p in module.named_parameters() if p.grad is not None and p.ndim}


def sums_by_unit(module: nn.Module, coupling: Coupling, values: Mapping[str, Tensor]) -> GroupScores:
    """Sums over the weights that read each unit, or else that make it; groups without values are left out."""
    found: GroupScores = {}
    for group in coupling.groups:
        members = _side(module, group, values)
        if members is not None:
            found[group.name] = unit_scores(module, group, values, members=members)
    return found


def with_gradients(module: nn.Module, coupling: Coupling, inputs: tuple[Tensor, ...]) -> Coupling:
    """The groups that gradients say something of, with a note on each other one."""
    trainable = {n: p for n, p in module.named_parameters() if p.requires_grad and p.ndim}
    frozen = [g.name for g in coupling.groups if _side(module, g, trainable) is None]
    return left_whole(coupling, frozen, "its weights are frozen, so the loss has no gradient there")


def _side(module: nn.Module, group: Group, values: Mapping[str, Tensor]) -> Members | None:
    for members in (readers, producers):
        if any(m.tensor in values for m in members(module, group)):
            return members
    return None
