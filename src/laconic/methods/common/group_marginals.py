"""A network with posteriors and gates, without the units that go: its weights' marginal moments, by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from laconic.methods.common.removal import sliced
from laconic.records import KeepPlan, RawTensor, WeightStats
from laconic.structure import Coupling, Group, Member, mask, shrink
from laconic.structure.coupling.sides import axes_of
from laconic.structure.shrinking import kept_positions

POSITIONS = "positions of "
Moments = Mapping[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class Marginals:
    """``small``: the plain network that is left. ``before``: weights of the whole network.

    By the small network's names: ``stats`` with marginal variances; ``alive``, False where a weight reads a
    position that is removed.
    """

    small: nn.Module
    stats: Mapping[str, WeightStats]
    alive: Mapping[str, npt.NDArray[np.bool_]]
    before: int


def positions_read(net: nn.Module, coupling: Coupling) -> Coupling:
    """The groups, and one of single positions for each linear layer that reads a unit at several.

    Such a layer follows a flattened channel. A position is no unit of the network: it can be zeroed, not
    removed.

    Args:
        net: The network.
        coupling: Its groups.

    Returns:
        The coupling with the further groups.

    >>> import torch
    >>> from laconic.structure import find_groups
    >>> net = nn.Sequential(nn.Conv1d(1, 2, 2), nn.Flatten(), nn.Linear(6, 3))
    >>> coupling = positions_read(net, find_groups(net, torch.zeros(1, 1, 4)))
    >>> [(g.name, g.size) for g in coupling.groups]
    [('0.weight:0', 2), ('positions of 2.weight', 6)]
    """
    extra: dict[str, Group] = {}
    for group in coupling.groups:
        for member in group.members:
            if axes_of(net, member.tensor)[1] != member.axis or not _is_linear(net, member.tensor):
                continue
            size = len(member.units)
            if np.bincount(member.units[member.units >= 0]).max() > 1:
                name = POSITIONS + member.tensor
                extra[name] = Group(name, size, (Member(member.tensor, member.axis, np.arange(size)),))
    groups = (*coupling.groups, *extra.values())
    return Coupling(groups, coupling.tied, coupling.notes, coupling.branches)


def marginals(
    moments: Moments, whole: nn.Module, coupling: Coupling, extended: Coupling, plan: KeepPlan
) -> Marginals:
    """Remove units and positions by a plan.

    Args:
        moments: Marginal mean and variance of each weight of the whole network, by name.
        whole: The plain network at the expectations of both.
        coupling: Its groups.
        extended: The groups and positions that have gates (:func:`positions_read`).
        plan: Which of both stay.

    Returns:
        The small network and what is known of its weights.
    """
    units = [g.name for g in coupling.groups if g.name in plan.kept]
    removed = KeepPlan({n: plan.kept[n] for n in units}, {n: plan.sizes[n] for n in units})
    small = shrink(mask(whole, extended, plan), coupling, removed).eval()
    stay, cut = kept_positions(extended, plan), kept_positions(coupling, removed)
    variances = {n: _raw(n, v.cpu().float().numpy()) for n, (_, v) in moments.items()}
    alive = {n: _raw(n, _alive(v.array.shape, n, stay).astype(np.int8)) for n, v in variances.items()}
    of_small, left = sliced(variances, cut, small), sliced(alive, cut, small)
    means = {n: p.detach().cpu().float().numpy() for n, p in small.named_parameters()}
    stats = {n: WeightStats(n, means[n], np.asarray(v.values())) for n, v in of_small.items()}
    kept = {n: np.asarray(t.values()) != 0 for n, t in left.items()}
    return Marginals(small, stats, kept, sum(v.numel() for _, v in moments.values()))


def _is_linear(net: nn.Module, tensor: str) -> bool:
    return isinstance(net.get_submodule(tensor.rpartition(".")[0]), nn.Linear)


def _raw(name: str, array: npt.NDArray[np.generic]) -> RawTensor:
    return RawTensor(name, np.ascontiguousarray(array))


def _alive(
    shape: tuple[int, ...], name: str, stay: Mapping[tuple[str, int], npt.NDArray[np.bool_]]
) -> npt.NDArray[np.bool_]:
    """Of a weight, what no removed unit or position reaches."""
    alive = np.ones(shape, dtype=bool)
    for axis, length in enumerate(shape):
        if (name, axis) in stay:
            alive &= stay[name, axis].reshape([length if k == axis else 1 for k in range(len(shape))])
    return alive
