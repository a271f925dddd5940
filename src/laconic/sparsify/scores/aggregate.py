"""From scores of weights to scores of units: which members of a group count, and how their numbers add up.

Both choices are functions handed in: ``members`` picks axes (:func:`producers`, :func:`readers`,
:func:`everything`), ``how`` reduces the numbers of a unit to one (:func:`total`, :func:`mean`,
:func:`largest`, :func:`norm`). A number that hangs on one unit by two axes (the hidden-to-hidden weights of
a recurrent layer) counts once.
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
    """Scores of one tensor along one axis: row p of ``values``, (positions, rest), is of unit ``units[p]``.

    ``counted`` is False where an earlier part holds the same number for the same unit; None: nowhere.
    """

    values: Tensor
    units: Tensor
    counted: Tensor | None = None

    def filled(self, value: float) -> Tensor:
        """The values, with another in the place of what is not counted."""
        return self.values if self.counted is None else self.values.masked_fill(~self.counted, value)

    def counts(self) -> Tensor:
        """How many numbers each position has."""
        if self.counted is None:
            return self.values.new_full((len(self.values),), self.values.shape[1])
        return self.counted.sum(1).to(self.values.dtype)


Aggregation = Callable[[Sequence[Part], int], Tensor]


def total(parts: Sequence[Part], size: int) -> Tensor:
    """Sum of a unit's scores."""
    out = torch.zeros(size, dtype=torch.float64)
    for part in parts:
        out.index_add_(0, part.units, part.filled(0.0).sum(1))
    return out


def mean(parts: Sequence[Part], size: int) -> Tensor:
    """Mean of a unit's scores: a unit with more weights is not better for it."""
    counts = torch.zeros(size, dtype=torch.float64)
    for part in parts:
        counts.index_add_(0, part.units, part.counts())
    return total(parts, size) / counts.clamp(min=1)


def largest(parts: Sequence[Part], size: int) -> Tensor:
    """Largest of a unit's scores."""
    out = np.full(size, -np.inf)
    for part in parts:
        np.maximum.at(out, part.units.numpy(), part.filled(-torch.inf).amax(1).numpy())
    return torch.from_numpy(out)


def norm(parts: Sequence[Part], size: int) -> Tensor:
    """Root of the sum of squares of a unit's scores (L2)."""
    squares = [Part(part.values.square(), part.units, part.counted) for part in parts]
    return total(squares, size).sqrt()


# --- which members count -----------------------------------------------------------------------------


def everything(module: nn.Module, group: Group) -> tuple[Member, ...]:
    """All that goes with a unit: weights that make it, norms, biases, weights that read it."""
    return group.members


def producers(module: nn.Module, group: Group) -> tuple[Member, ...]:
    """Weights that make the units: rows of a linear map or convolution, gates, columns of an embedding.

    A group that no weight makes (of an input) falls back on those that read it.
    """
    made, read = _sides(module, group)
    return made or read


def readers(module: nn.Module, group: Group) -> tuple[Member, ...]:
    """Weights that read the units: columns of a linear map, input channels of a convolution.

    Without them a unit changes nothing (but the moments of a layer norm): removing them is removing it. A
    matrix of one's own counts as one of a linear map.
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
    """A group's scores by tensor and axis; members without scores are passed over."""
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
    """One number a unit of every group, from scores of weights.

    Raises InputError for a group none of whose members has a score.

    >>> from laconic.structure import find_groups
    >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1))
    >>> _ = net[0].weight.data.copy_(torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
    >>> _ = net[2].weight.data.copy_(torch.tensor([[1.0, 2.0]]))
    >>> ones = {"0.weight": net[0].weight, "2.weight": net[2].weight}
    >>> group_scores(net, find_groups(net, torch.zeros(2, 2)), ones)["0.weight:0"].tolist()
    [8.0, 3.0]
    >>> group_scores(net, find_groups(net, torch.zeros(2, 2)), ones, how=norm, members=producers)[
    ...     "0.weight:0"].tolist()
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
    """One number a unit of one group."""
    parts = parts_of(group, members(module, group), scores)
    if not parts:
        told = ", ".join(dict.fromkeys(m.tensor for m in group.members))
        raise InputError(
            f"group {group.name!r}: no score was given for any of {told}. Cure: score one of them"
        )
    found: UnitScores = how(parts, group.size).numpy()
    return found
