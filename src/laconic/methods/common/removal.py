"""Removes units that a method has left without a weight, so that the network is physically smaller.

It can follow every method that decides by weight (Sparse VD, VNQ, magnitude) or by group. A unit all of whose
parameters decode to zero is removed, with all that reads it. Nothing but shapes changes, so that the result
is exact up to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from torch import nn

from laconic.errors import InputError
from laconic.methods.common.grid_choice import selections
from laconic.methods.common.units import unit_facts
from laconic.methods.contract import Compressed
from laconic.records import KeepPlan, Tensor
from laconic.structure import Coupling, find_groups, shrink
from laconic.structure.shrinking import Keep, kept_positions


def remove_dead_units(small: Compressed, *, inputs: bool = False) -> Compressed:
    """The same network without the units that are zero in every parameter; its tensors stay integers on their
    grids.

    Units of groups that cannot shrink stay.

    Args:
        small: A compressed network with an example input.
        inputs: Whether parts of the network's input that nothing reads are removed, too; the network then
            takes the whole input and selects from it.

    Returns:
        The smaller network. Its facts hold ``units`` (by layer: before and after) and ``kept_units`` (by
        group, see :func:`laconic.methods.common.units.unit_facts`), and ``units_removed``, how many went.

    Raises:
        InputError: No example input.

    >>> import torch
    >>> from laconic.records import IntTensor, UniformGrid
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> with torch.no_grad():
    ...     for p in net.parameters(): _ = p.fill_(1.0)
    ...     for p in (net[0].weight[1], net[0].bias[1:2], net[2].weight[:, 1]): _ = p.zero_()
    >>> tensors = {n: IntTensor(n, p.detach().numpy().astype(np.int32), UniformGrid(1.0))
    ...            for n, p in net.named_parameters()}
    >>> smaller = remove_dead_units(Compressed(net, tensors, {}, torch.zeros(1, 2)))
    >>> smaller.module[0].out_features, smaller.tensors["2.weight"].integers.shape
    (2, (1, 2))
    """
    if small.example is None:
        raise InputError(
            "removing units needs an example input. Cure: dataclasses.replace(small, example=batch)"
        )
    coupling = find_groups(small.module, small.example)
    plan = dead_units(small.module, coupling, inputs=inputs)
    if not plan.kept:
        return small
    module = shrink(small.module, coupling, plan).eval()
    tensors = {**sliced(small.tensors, kept_positions(coupling, plan), module), **selections(module)}
    removed = sum(len(plan.removed(name)) for name in plan.kept)
    told = unit_facts(small.module, coupling, plan.kept, small.facts)
    facts = {**small.facts, **told, "units_removed": removed}
    return replace(small, module=module, tensors=tensors, facts=facts, architecture_changed=True)


def dead_units(module: nn.Module, coupling: Coupling, *, inputs: bool = False) -> KeepPlan:
    """A plan that keeps every unit with a parameter that is not zero; groups that must, keep equally many.

    An empty group keeps its first unit, unless its whole branch may go.
    """
    alive: dict[str, np.ndarray[tuple[int], np.dtype[np.bool_]]] = {}
    parameters = dict(module.named_parameters(remove_duplicate=False))
    for group in coupling.groups:
        if group.of_input and not inputs:
            continue
        used = np.zeros(group.size, dtype=bool)
        for member in group.members:
            if member.tensor in parameters:
                p = parameters[member.tensor].detach().movedim(member.axis, 0)
                places = (p.reshape(len(p), -1) != 0).any(1).cpu().numpy() & (member.units >= 0)
                used[member.units[places]] = True
        used[0] |= not used.any() and group.name not in coupling.branches
        alive[group.name] = used
    for names in coupling.tied:
        most = max((int(alive[n].sum()) for n in names if n in alive), default=0)
        for name in names:
            if name in alive:
                spare = np.flatnonzero(~alive[name])[: most - int(alive[name].sum())]
                alive[name][spare] = True
    dead = {name: used for name, used in alive.items() if not used.all()}
    kept = {name: tuple(np.flatnonzero(used).tolist()) for name, used in dead.items()}
    return KeepPlan(kept, {name: len(used) for name, used in dead.items()})


def sliced(tensors: Mapping[str, Tensor], keep: Keep, module: nn.Module) -> dict[str, Tensor]:
    """The tensors as the smaller network holds them, under the names that they have there."""
    places = dict(module.state_dict())
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        axes = {axis: np.flatnonzero(stay) for (n, axis), stay in keep.items() if n == name}
        for new, part in _renamed(name, _take(tensor, axes), places).items():
            found[new] = part
    return found


def _take(tensor: Tensor, axes: Mapping[int, np.ndarray[tuple[int], np.dtype[np.int64]]]) -> Tensor:
    for axis, index in axes.items():
        tensor = tensor.take(axis, index)
    return tensor


def _renamed(name: str, tensor: Tensor, places: Mapping[str, object]) -> dict[str, Tensor]:
    """A network that picks its inputs is one level deeper; a narrow attention holds its projections apart."""
    for prefix in ("", "net."):
        if prefix + name in places:
            return {prefix + name: tensor.renamed(prefix + name)}
        stem, _, part = name.rpartition("in_proj_")
        split = [f"{prefix}{stem}{letter}_proj.{part}" for letter in "qkv"]
        if part and all(n in places for n in split):
            thirds = np.split(np.arange(tensor.shape[0]), 3)
            return {n: tensor.take(0, rows).renamed(n) for n, rows in zip(split, thirds, strict=True)}
    return {}
