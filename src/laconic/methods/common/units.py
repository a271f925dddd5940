"""How many units of each layer a method left, in one form for all methods: facts of a record, and a line."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from laconic.methods.contract import Compressed
from laconic.structure import Coupling, Group

MOST = 12
"""Layers that the line names."""


def unit_facts(
    net: nn.Module,
    coupling: Coupling,
    kept: Mapping[str, Sequence[int]],
    before: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The units before and after, by layer.

    Args:
        net: The network that the groups are of; it says what inputs are called.
        coupling: Its groups.
        kept: By group, the units that stay; a group that is not named is whole.
        before: Facts of an earlier removal in the same network: counts and numbers are then of the network
            before that.

    Returns:
        ``units``: by layer (or input) [before, after], without inputs that are whole. ``kept_units``: by
        group the numbers of the units that stay.

    >>> import torch
    >>> from laconic.structure import find_groups
    >>> layers = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> unit_facts(layers, find_groups(layers, torch.zeros(1, 2)), {"0.weight:0": (0, 2)})
    {'units': {'0': [3, 2]}, 'kept_units': {'0.weight:0': [0, 2]}}
    """
    told = {}
    earlier = dict((before or {}).get("units", {}))
    numbers = dict((before or {}).get("kept_units", {}))
    for group, label in zip(coupling.groups, _labels(net, coupling.groups), strict=True):
        left = len(kept[group.name]) if group.name in kept else group.size
        if left < group.size or not group.of_input or label in earlier:
            told[label] = [earlier.get(label, [group.size])[0], left]
    for name, left_over in kept.items():
        first = numbers.get(name)
        numbers[name] = [first[k] for k in left_over] if first else list(left_over)
    return {"units": {**earlier, **told}, "kept_units": numbers}


def with_units_told(small: Compressed, cure: str) -> Compressed:
    """A result whose notes say so where no unit was removed.

    Args:
        small: The result; its facts hold :func:`unit_facts`.
        cure: The settings by which units go.

    Returns:
        The result itself where units were removed.
    """
    units = small.facts.get("units") or {}
    if any(left < before for before, left in units.values()):
        return small
    whole = units_text({"units": units}).removeprefix("units: ")
    note = f"no unit was removed{f' ({whole})' if whole else ''}. Cure: {cure}, or longer training"
    return replace(small, facts={**small.facts, "notes": [*small.facts.get("notes", ()), note]})


def _labels(net: nn.Module, groups: Sequence[Group]) -> list[str]:
    """What a user calls the layers that make the units: those that two groups share have the group's name."""
    found = [_input_name(net, group) if group.of_input else _layer(group.name) for group in groups]
    often = Counter(found)
    return [one if often[one] == 1 else group.name for one, group in zip(found, groups, strict=True)]


def _layer(name: str) -> str:
    """A group's layer; of a parameter of the network itself, its own name."""
    tensor = name.rpartition(":")[0] or name
    return tensor.rpartition(".")[0] or tensor


def _input_name(net: nn.Module, group: Group) -> str:
    """What the network's ``forward`` calls the input."""
    tensor = next(m.tensor for m in group.members if m.tensor.startswith("input") and m.tensor[5:].isdigit())
    number = int(tensor.removeprefix("input"))
    named = [p for p in inspect.signature(net.forward).parameters.values() if p.kind is not p.VAR_KEYWORD]
    by_name = number < len(named) and named[number].kind is not named[number].VAR_POSITIONAL
    return named[number].name if by_name else f"input {number}"


def units_text(facts: Mapping[str, Any]) -> str:
    """The units in one line; empty where a record has none.

    >>> units_text({"units": {"image": [784, 380], "conv1": [20, 20], "conv2": [50, 12]}})
    'units: image 784 -> 380, conv1 20, conv2 50 -> 12'
    >>> units_text({})
    ''
    """
    units = facts.get("units") or {}
    told = [f"{n} {was}" if was == left else f"{n} {was} -> {left}" for n, (was, left) in units.items()]
    more = [] if len(told) <= MOST else [f"and {len(told) - MOST} more in the record"]
    return f"units: {', '.join([*told[:MOST], *more])}" if told else ""
