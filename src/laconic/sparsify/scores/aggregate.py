"""From scores of weights to scores of units.

Two choices are functions handed in. ``members`` says which tensors of a group are counted
(:func:`producers`, :func:`readers`, :func:`everything`). ``how`` reduces the scores of a unit's weights to
one number (:func:`total`, :func:`mean`, :func:`largest`, :func:`norm`). A weight that belongs to one unit by
two axes (hidden-to-hidden weights of a recurrent layer) counts once. Source: Fang et al., DepGraph: Towards
Any Structural Pruning, CVPR 2023 (importance of a coupled group as an aggregate over all of its parameters).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from laconic.errors import InputError
from laconic.sparsify.scores.common import GroupScores, UnitScores
from laconic.structure.coupling.groups import Coupling, Group, Member
from laconic.structure.coupling.sides import axes_of

Members = Callable[[nn.Module, Group], tuple[Member, ...]]


@dataclass(frozen=True, eq=False)
class Part:
    """Scores of one tensor along one axis: row p of ``values`` belongs to unit ``units[p]``.

    Args:
        values: Scores, float64, (positions, weights of a position).
        units: The unit of each position, (positions,).
        counted: Of the shape of ``values``; False where an earlier part holds the same weight for the same
            unit. None: all count.

    >>> part = Part(torch.tensor([[1.0, 2.0], [3.0, 4.0]]).double(), torch.tensor([0, 1]))
    >>> total([part], 2).tolist()
    [3.0, 7.0]
    """

    values: Tensor
    units: Tensor
    counted: Tensor | None = None

    def filled(self, value: float) -> Tensor:
        """The values, with ``value`` where a weight does not count."""
        return self.values if self.counted is None else self.values.masked_fill(~self.counted, value)

    def counts(self) -> Tensor:
        """How many weights of each position count."""
        if self.counted is None:
            return self.values.new_full((len(self.values),), self.values.shape[1])
        return self.counted.sum(1).to(self.values.dtype)


Aggregation = Callable[[Sequence[Part], int], Tensor]


def total(parts: Sequence[Part], size: int) -> Tensor:
    """Sum of the scores of a unit's weights.

    Args:
        parts: The group's scores by tensor and axis.
        size: Units of the group.

    Returns:
        One number per unit, (size,), float64.

    >>> total([Part(torch.tensor([[1.0, 2.0], [3.0, 4.0]]).double(), torch.tensor([0, 1]))], 2).tolist()
    [3.0, 7.0]
    """
    out = torch.zeros(size, dtype=torch.float64)
    for part in parts:
        out.index_add_(0, part.units, part.filled(0.0).sum(1))
    return out


def mean(parts: Sequence[Part], size: int) -> Tensor:
    """Mean of the scores of a unit's weights: the number of a unit's weights does not raise its score.

    Args:
        parts: The group's scores by tensor and axis.
        size: Units of the group.

    Returns:
        One number per unit, (size,), float64; 0 for a unit without weights.

    >>> mean([Part(torch.tensor([[1.0, 2.0], [3.0, 4.0]]).double(), torch.tensor([0, 1]))], 2).tolist()
    [1.5, 3.5]
    """
    counts = torch.zeros(size, dtype=torch.float64)
    for part in parts:
        counts.index_add_(0, part.units, part.counts())
    return total(parts, size) / counts.clamp(min=1)


def largest(parts: Sequence[Part], size: int) -> Tensor:
    """Largest score of a unit's weights.

    Args:
        parts: The group's scores by tensor and axis.
        size: Units of the group.

    Returns:
        One number per unit, (size,), float64; minus infinity for a unit without weights.

    >>> largest([Part(torch.tensor([[1.0, 2.0], [3.0, 4.0]]).double(), torch.tensor([0, 1]))], 2).tolist()
    [2.0, 4.0]
    """
    out = np.full(size, -np.inf)
    for part in parts:
        np.maximum.at(out, part.units.numpy(), part.filled(-torch.inf).amax(1).numpy())
    return torch.from_numpy(out)


def norm(parts: Sequence[Part], size: int) -> Tensor:
    """Root of the sum of squares of the scores of a unit's weights (L2 norm).

    Args:
        parts: The group's scores by tensor and axis.
        size: Units of the group.

    Returns:
        One number at least 0 per unit, (size,), float64.

    >>> norm([Part(torch.tensor([[3.0, 4.0], [0.0, 1.0]]).double(), torch.tensor([0, 1]))], 2).tolist()
    [5.0, 1.0]
    """
    squares = [Part(part.values.square(), part.units, part.counted) for part in parts]
    return total(squares, size).sqrt()


# --- which members count -----------------------------------------------------------------------------


def everything(module: nn.Module, group: Group) -> tuple[Member, ...]:
    """All tensors that hold a unit: weights that make it, normalisation, biases, weights that read it.

    Args:
        module: The network.
        group: One of its groups.

    Returns:
        All members of the group.

    >>> from laconic.structure import find_groups
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> group = find_groups(net, torch.zeros(2, 2)).group("0.weight:0")
    >>> [(m.tensor, m.axis) for m in everything(net, group)]
    [('0.weight', 0), ('0.bias', 0), ('2.weight', 1)]
    """
    return group.members


def producers(module: nn.Module, group: Group) -> tuple[Member, ...]:
    """Weights that make the units: rows of a linear map or convolution, gates, columns of an embedding.

    Args:
        module: The network.
        group: One of its groups.

    Returns:
        Those members; where no weight makes the units (a group of an input), the members that read them.

    >>> from laconic.structure import find_groups
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> group = find_groups(net, torch.zeros(2, 2)).group("0.weight:0")
    >>> [(m.tensor, m.axis) for m in producers(net, group)]
    [('0.weight', 0)]
    """
    made, read = _sides(module, group)
    return made or read


def readers(module: nn.Module, group: Group) -> tuple[Member, ...]:
    """Weights that read the units: columns of a linear map, input channels of a convolution.

    A unit whose readers are zero has no effect on the output, except on the moments of a layer norm. A plain
    parameter that the network multiplies by counts as the weight of a linear map.

    Args:
        module: The network.
        group: One of its groups.

    Returns:
        Those members; where no weight reads the units, the members that make them.

    >>> from laconic.structure import find_groups
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> group = find_groups(net, torch.zeros(2, 2)).group("0.weight:0")
    >>> [(m.tensor, m.axis) for m in readers(net, group)]
    [('2.weight', 1)]
    """
    made, read = _sides(module, group)
    return read or made


def _sides(module: nn.Module, group: Group) -> tuple[tuple[Member, ...], tuple[Member, ...]]:
    """The members that make a group's units, and those that read them."""
    axes = {m.tensor: axes_of(module, m.tensor) for m in group.members}
    made = tuple(m for m in group.members if m.axis == axes[m.tensor][0])
    return made, tuple(m for m in group.members if m.axis == axes[m.tensor][1])


# --- together ----------------------------------------------------------------------------------------


def parts_of(group: Group, members: Sequence[Member], scores: Mapping[str, Tensor]) -> list[Part]:
    """A group's scores by tensor and axis. Members without scores are skipped."""
    parts = []
    for number, member in enumerate(members):
        if member.tensor not in scores:
            continue
        score = scores[member.tensor].detach().to("cpu", torch.float64)
        if score.ndim <= member.axis or score.shape[member.axis] != len(member.units):
            raise InputError(
                f"group {group.name!r} has {len(member.units)} positions along axis {member.axis} of "
                f"{member.tensor!r}, the scores have shape {tuple(score.shape)}. Cure: score this network"
            )
        units = torch.as_tensor(member.units)
        mine = (units >= 0).nonzero().ravel()
        values = score.movedim(member.axis, 0)
        counted = _not_yet_counted(score, member, [m for m in members[:number] if m.tensor == member.tensor])
        if counted is not None:
            counted = counted.movedim(member.axis, 0)[mine].reshape(len(mine), -1)
        parts.append(Part(values[mine].reshape(len(mine), -1), units[mine], counted))
    return parts


def _not_yet_counted(score: Tensor, member: Member, earlier: Sequence[Member]) -> Tensor | None:
    """False where a number has the same unit along another axis of its tensor."""
    if not earlier:
        return None
    counted = torch.ones(score.shape, dtype=torch.bool)
    for other in earlier:
        counted &= _along(other, score.ndim) != _along(member, score.ndim)
    return counted


def _along(member: Member, dims: int) -> Tensor:
    shape = [1] * dims
    shape[member.axis] = -1
    return torch.as_tensor(member.units).reshape(shape)


def group_scores(
    module: nn.Module,
    coupling: Coupling,
    scores: Mapping[str, Tensor],
    *,
    how: Aggregation = total,
    members: Members = everything,
) -> GroupScores:
    """One number per unit of every group, from scores of weights.

    Args:
        module: The network.
        coupling: Its groups.
        scores: By parameter, a tensor of its shape; parameters may be missing.
        how: Reduces the scores of a unit's weights: :func:`total`, :func:`mean`, :func:`largest` or
            :func:`norm`.
        members: Which tensors count: :func:`producers`, :func:`readers` or :func:`everything`.

    Returns:
        By group, one number per unit, float64.

    Raises:
        InputError: No member of some group has a score, or a score's shape is not the parameter's.

    >>> from laconic.structure import find_groups
    >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1))
    >>> _ = net[0].weight.data.copy_(torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
    >>> _ = net[2].weight.data.copy_(torch.tensor([[1.0, 2.0]]))
    >>> weights, coupling = dict(net.named_parameters()), find_groups(net, torch.zeros(2, 2))
    >>> del weights["2.bias"]
    >>> group_scores(net, coupling, weights)["0.weight:0"].tolist()
    [8.0, 3.0]
    >>> group_scores(net, coupling, weights, how=norm, members=producers)["0.weight:0"].tolist()
    [5.0, 1.0]
    """
    return {g.name: unit_scores(module, g, scores, how=how, members=members) for g in coupling.groups}


def unit_scores(
    module: nn.Module,
    group: Group,
    scores: Mapping[str, Tensor],
    *,
    how: Aggregation = total,
    members: Members = everything,
) -> UnitScores:
    """One number per unit of one group; arguments and errors as those of :func:`group_scores`."""
    parts = parts_of(group, members(module, group), scores)
    if not parts:
        names = ", ".join(dict.fromkeys(m.tensor for m in group.members))
        raise InputError(
            f"group {group.name!r}: no score was given for any of {names}. Cure: score one of them"
        )
    found: UnitScores = how(parts, group.size).numpy()
    return found
