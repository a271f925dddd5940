"""Which groups may lose all their units: found by trying each of them.

A group may when the network without its branch computes what the network with the branch at zero does, and
still listens to its input. Groups are tried together with those found before them, so that all of them may go
at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from laconic.records import KeepPlan
from laconic.sparsify.branches import KINDS, Branch, Branches, Constant, run, silent_modules
from laconic.sparsify.coupling.groups import Coupling, Group
from laconic.sparsify.shrink import mask, shrink

Agree = Callable[[Any, Any], bool]
Inputs = tuple[Tensor, ...]


def find_branches(
    module: nn.Module, coupling: Coupling, one: Inputs, other: Inputs, agree: Agree, tolerance: float
) -> Branches:
    """Groups whose branch can be closed, with what is to be replaced; ``one`` and ``other`` are two inputs.

    ``module`` is in evaluation mode, ``agree`` says whether two results are equal up to rounding. The inputs
    are batched together: what a branch says has a batch of one, and must fit any.
    """
    one, other = _together(one, other), _together(other, one)
    try:
        run(module, one)
    except Exception:  # noqa: BLE001 - the network takes no other batch than the example's
        return Branches()
    always = silent_modules(module, (one, other), tolerance)
    tied = {name for names in coupling.tied for name in names}

    def exact(branches: Mapping[str, Branch]) -> bool:
        return _exact(module, replace(coupling, branches=Branches(branches, one)), (one, other), agree)

    found: dict[str, Branch] = {}
    for group in coupling.groups:
        owners = _owners(module, group)
        if group.name in tied or not owners:
            continue
        alone = replace(coupling, branches=Branches({group.name: Branch(())}, one))
        still = silent_modules(mask(module, alone, _emptied(alone)), (one, other), tolerance)
        branch = Branch(tuple(n for n in still if n not in always))
        if not owners <= set(branch.silent) or not exact({group.name: branch}):
            continue
        small = _closed(module, replace(coupling, branches=Branches({group.name: branch}, one)))
        clean = replace(branch, unread=_unread(small, one))
        tried = clean if exact({group.name: clean}) else branch
        if exact({**found, group.name: tried}):
            found[group.name] = tried
    return Branches(found, one)


def _together(first: Inputs, second: Inputs) -> Inputs:
    return tuple(torch.cat([a, b]) if a.ndim else a for a, b in zip(first, second, strict=True))


def _owners(module: nn.Module, group: Group) -> set[str]:
    """The modules that hold the group's tensors; none when some are of a kind that no branch is made of."""
    names = {m.tensor.rpartition(".")[0] for m in group.members}
    if group.of_input or not all(name and isinstance(module.get_submodule(name), KINDS) for name in names):
        return set()
    return names


def _emptied(coupling: Coupling) -> KeepPlan:
    names = coupling.branches.by_group
    return KeepPlan(dict.fromkeys(names, ()), {n: coupling.group(n).size for n in names})


def _closed(module: nn.Module, coupling: Coupling) -> nn.Module:
    return shrink(module, coupling, _emptied(coupling))


def _exact(module: nn.Module, coupling: Coupling, inputs: tuple[Inputs, Inputs], agree: Agree) -> bool:
    """Whether the network without its branches is the masked one, and still depends on its input."""
    small = _closed(module, coupling)
    masked = mask(module, coupling, _emptied(coupling))
    try:
        got = [run(small, x) for x in inputs]
    except Exception:  # noqa: BLE001 - the network's own code may fail in any way
        return False
    expected = [run(masked, x) for x in inputs]
    return all(map(agree, got, expected)) and not agree(expected[0], expected[1])


def _unread(small: nn.Module, example: Inputs) -> tuple[str, ...]:
    """Modules whose output the network's result does not depend on."""
    outputs: dict[str, Tensor] = {}
    handles = [
        m.register_forward_hook(lambda _, __, y, name=name: outputs.setdefault(name, y))
        for name, m in small.named_modules()
        if isinstance(m, (*KINDS, Constant)) and name
    ]
    needs = {p: p.requires_grad for p in small.parameters()}
    try:
        for p in needs:
            p.requires_grad_(True)
        with torch.enable_grad():
            result = small(*example)
        total = sum(y.sum() for y in tree_leaves(result) if isinstance(y, Tensor) and y.requires_grad)
        if not isinstance(total, Tensor):
            return ()
        asked = {n: y for n, y in outputs.items() if y.requires_grad}
        grads = torch.autograd.grad(total, list(asked.values()), allow_unused=True)
        return tuple(n for n, g in zip(asked, grads, strict=True) if g is None)
    finally:
        for handle in handles:
            handle.remove()
        for p, need in needs.items():
            p.requires_grad_(need)
