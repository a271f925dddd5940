"""Which groups may lose all their units: found by trying each of them.

A group may when the network without its branch computes what the network with the branch at zero does, and
its result still depends on the input. Each group is tried by itself, and then all of them together, so that
all may be removed at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from laconic.networks import sharing
from laconic.progress import steps
from laconic.records import KeepPlan
from laconic.structure.branches import KINDS, Branch, Branches, NotConstant, Watched, close, run, watched
from laconic.structure.coupling.groups import Coupling, Group
from laconic.structure.shrinking import carried_out, masked

Agree = Callable[[Any, Any], bool]
Inputs = tuple[Tensor, ...]


def find_branches(
    module: nn.Module,
    coupling: Coupling,
    one: Inputs,
    other: Inputs,
    agree: Agree,
    tolerance: float,
    known: Mapping[str, Branch] | None = None,
) -> Branches:
    """Groups whose branch can be replaced by constants, with the modules to replace.

    ``one`` and ``other`` are two inputs. ``module`` is in evaluation mode; it is written to, and afterwards
    as it was. ``agree`` says whether two results are equal up to rounding. The two inputs are batched
    together: the constants of a branch have a batch of one, and must fit any. ``known`` are branches that
    were found with other inputs: where all of them hold for these, no other is searched.
    """
    both = _together(one, other)
    candidates = [g for g in coupling.groups if _may(module, coupling, g)]
    if not candidates:
        return Branches()
    try:
        always = watched(module, both, tolerance).constant
    except Exception:  # noqa: BLE001 - the network takes no other batch than the example's
        return Branches()
    search = _Search(module, coupling, both, agree, tolerance, always)
    if known is not None and search.exact(known):
        return Branches(known, both)
    found: dict[str, Branch] = {}
    with steps("branches", len(candidates)) as advance:
        for group in candidates:
            branch = search.branch(group)
            if branch is not None:
                found[group.name] = branch
            advance(group.name)
    if len(found) > 1 and not search.exact(found):
        found = search.that_agree(found)
    return Branches(found, both)


def _together(first: Inputs, second: Inputs) -> Inputs:
    """A batch of two examples that differ, as far as the axes show where the examples are."""
    lengths = {a.shape[0] for a in first if a.ndim}
    if len(lengths) == 1:  # tokens are the same in both inputs, so they are of two examples
        return tuple(torch.cat([a[:1], b[-1:]]) if a.ndim else a for a, b in zip(first, second, strict=True))
    return tuple(torch.cat([a, b]) if a.ndim else a for a, b in zip(first, second, strict=True))


def _may(module: nn.Module, coupling: Coupling, group: Group) -> bool:
    """Whether all that the group reaches is of the kinds that branches are made of, and nothing ties it."""
    tied = {name for names in coupling.tied for name in names}
    owners = _owners(group)
    kinds = bool(owners) and all(name and isinstance(module.get_submodule(name), KINDS) for name in owners)
    return kinds and not group.of_input and group.name not in tied


def _owners(group: Group) -> set[str]:
    """The modules that hold the group's tensors."""
    return {m.tensor.rpartition(".")[0] for m in group.members}


@dataclass(frozen=True, eq=False)
class _Search:
    """Closes branches on copies that share the network's parameters, and compares."""

    module: nn.Module
    coupling: Coupling
    both: Inputs
    agree: Agree
    tolerance: float
    always: tuple[str, ...]

    def branch(self, group: Group) -> Branch | None:
        """What is to be replaced once the group is empty, or None where it must not be."""
        owners = _owners(group)
        if owners & set(self.always):
            return None
        try:
            seen = self._emptied([group.name], owners)
        except NotConstant:
            return None
        constant = tuple(name for name in seen.constant if name not in self.always)
        if not owners <= set(constant) or not self._depends_on_input(seen.result):
            return None
        least, most = Branch(constant), Branch(constant, seen.unread)
        if not self._closes({group.name: least}, seen):
            return None
        more = most.modules != least.modules and self._closes({group.name: most}, seen)
        return most if more else least

    def exact(self, branches: Mapping[str, Branch]) -> bool:
        """Whether all of these may be removed together."""
        seen = self._emptied(list(branches))
        return self._depends_on_input(seen.result) and self._closes(branches, seen)

    def that_agree(self, branches: Mapping[str, Branch]) -> dict[str, Branch]:
        """As many as may be removed together, added one by one."""
        found: dict[str, Branch] = {}
        for name, branch in branches.items():
            if self.exact({**found, name: branch}):
                found[name] = branch
        return found

    def _emptied(self, names: list[str], expected: Collection[str] = ()) -> Watched:
        """The network with some groups at zero; raises NotConstant as ``watched`` does."""
        with masked(self.module, self.coupling, self._plan(names)):
            return watched(self.module, self.both, self.tolerance, self.always, expected)

    def _plan(self, names: list[str]) -> KeepPlan:
        return KeepPlan(dict.fromkeys(names, ()), {n: self.coupling.group(n).size for n in names})

    def _closes(self, branches: Mapping[str, Branch], seen: Watched) -> bool:
        """Whether the network without the branches computes what the masked one does."""
        small = sharing(self.module)
        close(small, branches.values(), seen.outputs)
        coupling = replace(self.coupling, branches=Branches(branches, self.both))
        small = carried_out(small, coupling, self._plan(list(branches)))
        try:
            got = run(small, self.both)
        except Exception:  # noqa: BLE001 - the network's own code may fail in any way
            return False
        return self.agree(got, seen.result)

    def _depends_on_input(self, result: Any) -> bool:
        """Whether two examples have different results."""
        tensors = [t for t in tree_leaves(result) if isinstance(t, Tensor) and t.ndim]
        halves = [t.chunk(2) for t in tensors if t.shape[0] % 2 == 0]
        return any(not self.agree(a, b) for a, b in halves)
