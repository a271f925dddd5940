"""Masks and running averages of coupled units: buffers on a prepared network's root, one a group.

They sit on the network itself and not in a child module, which an ``nn.Sequential`` would try to run.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from laconic.networks.masks import add_mask, as_mask
from laconic.records import KeepPlan
from laconic.sparsify.scores.common import GroupScores
from laconic.structure import Coupling, Group
from laconic.structure.macs import WeightMacs

_ATTACHED = "_laconic_groups"
_KEPT, _AVERAGE = "laconic_kept_", "laconic_importance_"


def add_unit_masks(net: nn.Module, coupling: Coupling, macs: WeightMacs) -> None:
    """An all-true mask for each group, and what was found out about the network."""
    net.__dict__[_ATTACHED] = (coupling, macs)
    for k, group in enumerate(coupling.groups):
        add_mask(net, f"{_KEPT}{k}", torch.ones(group.size, dtype=torch.bool))


def add_averages(net: nn.Module, coupling: Coupling) -> None:
    """A number for each unit, zero so far."""
    for k, group in enumerate(coupling.groups):
        net.register_buffer(f"{_AVERAGE}{k}", torch.zeros(group.size))


def groups_of(module: nn.Module) -> tuple[Coupling, WeightMacs]:
    """What ``prepare`` found."""
    coupling, macs = module.__dict__[_ATTACHED]
    return coupling, macs


def unit_masks_of(module: nn.Module, coupling: Coupling) -> dict[str, Tensor]:
    """The masks by group, in the memory of their buffers: True where a unit is left."""
    return {name: as_mask(buffer) for name, buffer in _by_group(module, coupling, _KEPT).items()}


def averages_of(module: nn.Module, coupling: Coupling) -> GroupScores:
    """The averages by group, in float64."""
    found = _by_group(module, coupling, _AVERAGE)
    return {name: average.cpu().double().numpy() for name, average in found.items()}


def average_in(module: nn.Module, coupling: Coupling, scores: GroupScores, memory: float) -> None:
    """Average <- memory * average + (1 - memory) * score; a group without scores stays as it is."""
    for name, average in _by_group(module, coupling, _AVERAGE).items():
        if name in scores:
            new = torch.as_tensor(scores[name]).to(average)
            average.mul_(memory).add_(new, alpha=1 - memory)


def plan_of(module: nn.Module, coupling: Coupling) -> KeepPlan:
    """The units that are left, as a plan."""
    kept = {
        name: tuple(np.flatnonzero(mask.cpu().numpy()).tolist())
        for name, mask in unit_masks_of(module, coupling).items()
    }
    return KeepPlan(kept, {g.name: g.size for g in coupling.groups})


def hold(module: nn.Module, coupling: Coupling) -> None:
    """Zero everything that belongs to units that are removed, and all of a branch that has none left."""
    tensors: dict[str, Tensor] = dict(module.named_parameters())
    moving = {n: b for n, b in module.named_buffers() if not n.endswith("running_var")}
    tensors |= {n: b for n, b in moving.items() if b.is_floating_point()}
    masks = unit_masks_of(module, coupling)
    for group in coupling.groups:
        mask = masks[group.name]
        if bool(mask.all()):
            continue
        _zero(group, mask, tensors)
        if not bool(mask.any()):
            for name in coupling.branches.by_group[group.name].modules:
                for tensor in (t for n, t in tensors.items() if n.rpartition(".")[0] == name):
                    tensor.zero_()


def without_bookkeeping(net: nn.Module) -> nn.Module:
    """``net`` itself, its masks and averages removed."""
    for name in [n for n, _ in net.named_buffers(recurse=False) if n.startswith((_KEPT, _AVERAGE))]:
        delattr(net, name)
    net.__dict__.pop(_ATTACHED, None)  # a copy of an fx.GraphModule has none
    return net


def _zero(group: Group, mask: Tensor, tensors: Mapping[str, Tensor]) -> None:
    removed = torch.cat([~mask, mask.new_zeros(1)])  # the last stands for positions of other groups
    for member in group.members:
        tensor = tensors.get(member.tensor)
        if tensor is not None:
            places = (
                removed[torch.as_tensor(member.units, device=mask.device) % len(removed)].nonzero().ravel()
            )
            tensor.index_fill_(member.axis, places, 0)


def _by_group(module: nn.Module, coupling: Coupling, prefix: str) -> dict[str, Tensor]:
    buffers = (b for name, b in module.named_buffers(recurse=False) if name.startswith(prefix))
    return dict(zip((g.name for g in coupling.groups), buffers, strict=True))
