"""Coupled groups: which positions of which tensors must be removed together.

A group is named by the first weight that makes its units, as ``conv1.weight:0`` (output channels of
``conv1``), or else by the first axis that it reaches. Units are numbered in the order in which they appear
there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as default

import numpy as np
import torch
from torch import nn

from laconic.errors import InputError
from laconic.structure.branches import Branches
from laconic.structure.coupling.labels import coupled
from laconic.structure.coupling.observed import observed
from laconic.structure.coupling.rules_layers import LAYER_RULES
from laconic.structure.coupling.rules_math import MATH_RULES
from laconic.structure.coupling.rules_sequence import SEQUENCE_RULES
from laconic.structure.coupling.rules_shapes import SHAPE_RULES
from laconic.structure.coupling.sides import axes_of
from laconic.structure.coupling.trace import Trace
from laconic.structure.coupling.units import Labels

RULES = {**SHAPE_RULES, **MATH_RULES, **LAYER_RULES, **SEQUENCE_RULES}
PIXELS = -1  # the axis of a group of single numbers of an input


@dataclass(frozen=True, eq=False)
class Member:
    """One axis of one tensor that holds a group's units.

    Attributes:
        tensor: Name of a parameter or buffer, or ``inputK`` for the network's input K.
        axis: Axis of the tensor; :data:`PIXELS` for single numbers of an input.
        units: By position of the axis, the group's unit there, -1 where the position is of another group;
            (positions,).

    >>> Member("fc.weight", 0, np.array([0, 1, 2])).units.tolist()
    [0, 1, 2]
    """

    tensor: str
    axis: int
    units: Labels


@dataclass(frozen=True, eq=False)
class Group:
    """Units that can be removed one by one, and every axis in which they appear.

    Attributes:
        name: The same whenever the network is traced: ``conv1.weight:0`` for the output channels of
            ``conv1``.
        size: Number of units.
        members: Axes of tensors; a group of an input has the member ``inputK``, whose axis is one of the
            input's, or :data:`PIXELS` for its single numbers in flat order.

    >>> Group("fc.weight:0", 3, (Member("fc.weight", 0, np.arange(3)),)).of_input
    False
    """

    name: str
    size: int
    members: tuple[Member, ...]

    @property
    def of_input(self) -> bool:
        """Whether removing a unit removes a part of the network's input."""
        return any(m.tensor.startswith("input") and m.tensor[5:].isdigit() for m in self.members)


@dataclass(frozen=True, eq=False)
class Coupling:
    """All groups of a network.

    Attributes:
        groups: The groups, in the network's order.
        tied: Names of groups that must keep equally many units.
        notes: One line on each layer that is left whole, with the reason.
        branches: The groups that may lose all their units.

    >>> coupling = Coupling((Group("fc.weight:0", 3, (Member("fc.weight", 0, np.arange(3)),)),))
    >>> coupling.group("fc.weight:0").size, sorted(coupling.axes)
    (3, [('fc.weight', 0)])
    """

    groups: tuple[Group, ...]
    tied: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()
    branches: Branches = default(default_factory=Branches)

    @property
    def axes(self) -> frozenset[tuple[str, int]]:
        """Every (tensor, axis) that some group reaches."""
        return frozenset((m.tensor, m.axis) for g in self.groups for m in g.members)

    def whole(self, module: nn.Module) -> tuple[str, ...]:
        """Weights of the network (not vectors) that no group reaches: layers that cannot shrink."""
        reached = {m.tensor for g in self.groups for m in g.members}
        return tuple(n for n, p in module.named_parameters() if p.ndim > 1 and n not in reached)

    def group(self, name: str) -> Group:
        """One group by its name."""
        for group in self.groups:
            if group.name == name:
                return group
        known = ", ".join(g.name for g in self.groups)
        raise InputError(f"no group is called {name!r}. Cure: one of {known}")


def trace_coupling(
    module: nn.Module, example: tuple[torch.Tensor, ...], *, outermost: bool = True
) -> Coupling:
    """The groups that one run of a network in evaluation mode shows; the module must be a private copy.

    ``outermost``: of an axis that the network splits (heads and their width), the outer parts are units;
    otherwise one inner position in each of them.
    """
    trace = Trace(outermost)
    trace.run(module, example, RULES, observed)
    order = [name for name in module.state_dict() if name in trace.state]
    trace.state = {name: trace.state[name] for name in order}
    _settle_split_axes(trace)
    groups, tied = _collect_with_ties(trace)
    return Coupling(groups, tied, (*trace.notes, *_lost(trace, module), *_untouched(trace, module)))


def _precedence(member: Member, trace: Trace, order: Mapping[str, int]) -> tuple[bool, int, int]:
    """Matrices that make the units come first, then the state's order, then inputs."""
    if member.tensor not in trace.state:
        return True, len(order), member.axis
    shape = trace.state[member.tensor].shape
    makes = member.axis == 0 and int(np.prod(shape)) > shape[0]  # no scale of shape (channels, 1, 1)
    return not makes, order[member.tensor], member.axis


def _collect_with_ties(trace: Trace) -> tuple[tuple[Group, ...], tuple[tuple[str, ...], ...]]:
    """Groups, and which must keep equally many; axes that are not of one group each stay."""
    while True:
        groups, of_root = _collect(trace, _axes(trace))
        ties, whole = [], True
        for axes in trace.tied:
            names = [{of_root.get(int(r), "") for r in trace.units.find(labels)} for labels in axes]
            together = {name for part in names for name in part}
            if together != {""} and ("" in together or any(len(part) > 1 for part in names)):
                for labels in axes:
                    trace.units.pin(labels)
                whole = False
            elif len(together) > 1:
                ties.append(tuple(dict.fromkeys(name for part in names for name in part)))
        if whole:
            return groups, tuple(dict.fromkeys(ties))


def _settle_split_axes(trace: Trace) -> None:
    """A field along several axes must vary along only one: the outermost, or the innermost."""
    for _ in range(len(trace.split) + 1):
        again = False
        for field in trace.split:
            roots = trace.units.find(field.units)
            varying = [k for k in field.axes if (roots != np.take(roots, [0], axis=k)).any()]
            for axis in varying[1:] if trace.outermost else varying[:-1]:
                coupled(trace.units, field, axis)
                again = True
        if not again:
            return


def _axes(trace: Trace) -> list[tuple[str, int, Labels]]:
    """Every labelled axis of every tensor of the state and of every input, with the roots of its units."""
    found = [
        (name, axis, field.units.ravel())
        for name, value in trace.state.items()
        for field in value.fields
        for axis in field.axes
    ]
    for number, value in enumerate(trace.inputs):
        found += [(f"input{number}", f.axes[0], f.units.ravel()) for f in value.fields]
    found += [(f"input{number}", PIXELS, units) for number, units in trace.pixels.items()]
    return [(name, axis, trace.units.find(units)) for name, axis, units in found]


def _collect(trace: Trace, axes: list[tuple[str, int, Labels]]) -> tuple[tuple[Group, ...], dict[int, str]]:
    """Units that appear in the same axes, equally often, are one group."""
    counts: dict[int, dict[tuple[str, int], int]] = defaultdict(dict)
    order: dict[int, None] = {}
    ranks = {name: k for k, name in enumerate(trace.state)}
    for name, axis, roots in sorted(axes, key=lambda a: (ranks.get(a[0], len(ranks)), a[1])):
        for root, n in zip(*np.unique(roots[roots > 0], return_counts=True), strict=True):
            counts[int(root)][(name, axis)] = int(n)
        order |= dict.fromkeys(roots[roots > 0].tolist())
    shapes: dict[frozenset[tuple[tuple[str, int], int]], list[int]] = defaultdict(list)
    for root in order:
        if any(name in trace.state for name, _ in counts[root]):
            shapes[frozenset(counts[root].items())].append(root)
    groups: list[Group] = []
    of_root: dict[int, str] = {}
    highest = max((int(roots.max()) for *_, roots in axes if roots.size), default=0)
    number = np.full(highest + 1, -1, dtype=np.int64)
    for counted, members in shapes.items():
        if len(members) > 1:  # the only unit of a group cannot go
            places = {place for place, _ in counted}
            number[members] = np.arange(len(members))
            mine = [Member(n, axis, number[roots]) for n, axis, roots in axes if (n, axis) in places]
            number[members] = -1
            mine = [m for m in mine if (m.units >= 0).any()]
            group = _group(sorted(mine, key=lambda m: _precedence(m, trace, ranks)))
            groups.append(group)
            of_root |= dict.fromkeys(members, group.name)
    return tuple(groups), of_root


def _group(members: Sequence[Member]) -> Group:
    """A group of these members, the first of which gives it its name and the order of its units."""
    first = members[0]
    rank = np.unique(first.units[first.units >= 0], return_index=True)[1].argsort().argsort()
    renumbered = tuple(Member(m.tensor, m.axis, np.where(m.units >= 0, rank[m.units], -1)) for m in members)
    part = "" if (first.units >= 0).all() else f"[{int(np.argmax(first.units >= 0))}]"
    return Group(f"{first.tensor}:{first.axis}{part}", len(rank), renumbered)


def _lost(trace: Trace, module: nn.Module) -> Iterable[str]:
    """A line on every weight all of whose outputs must stay for another reason than being the result."""
    for name, parameter in module.named_parameters():
        if name not in trace.state or parameter.ndim < 2:
            continue
        made = [f for f in trace.state[name].fields if f.axes == (axes_of(module, name)[0],)]
        if made and all(trace.units.is_fixed(f.units) for f in made):
            reasons = trace.units.why(np.concatenate([f.units.ravel() for f in made]))
            if reasons:
                yield f"{name} keeps all its outputs: {'; '.join(reasons)}"


def _untouched(trace: Trace, module: nn.Module) -> Iterable[str]:
    """A line on every weight that the run did not use."""
    for name, parameter in module.named_parameters():
        if name not in trace.state and parameter.numel() > 1:
            yield f"{name} was not used with this example: left whole"


# --- parts of a coupling --------------------------------------------------------------------------


def without_inputs(coupling: Coupling) -> Coupling:
    """The same without groups of the network's inputs, for callers who keep all pixels or sensors."""
    groups = tuple(g for g in coupling.groups if not g.of_input)
    names = {g.name for g in groups}
    return replace(coupling, groups=groups, tied=tuple(t for t in coupling.tied if set(t) <= names))


def left_whole(coupling: Coupling, names: Sequence[str], why: str) -> Coupling:
    """The same without these groups and all that are tied to them, each with a note that gives the reason.

    >>> from laconic.structure import Group
    >>> coupling = Coupling((Group("a:0", 4, ()), Group("b:0", 4, ())))
    >>> left_whole(coupling, ["b:0"], "it has no score").notes
    ('b:0: it has no score: left whole',)
    """
    removed = {n for together in tied_sets(coupling) if set(together) & set(names) for n in together}
    notes = tuple(f"{g.name}: {why}: left whole" for g in coupling.groups if g.name in removed)
    return replace(
        coupling,
        groups=tuple(g for g in coupling.groups if g.name not in removed),
        tied=tuple(t for t in coupling.tied if not set(t) & removed),
        notes=(*coupling.notes, *notes),
    )


def tied_sets(coupling: Coupling) -> tuple[tuple[str, ...], ...]:
    """Every group's name once, together with those that must keep equally many; in the network's order.

    >>> from laconic.structure import Group
    >>> groups = tuple(Group(name, 4, ()) for name in ("a:0", "b:0", "c:0"))
    >>> tied_sets(Coupling(groups, tied=(("a:0", "c:0"),)))
    (('a:0', 'c:0'), ('b:0',))
    """
    sets: list[set[str]] = [{g.name} for g in coupling.groups]
    for names in coupling.tied:
        met = [s for s in sets if s & set(names)]
        sets = [s for s in sets if s not in met] + [set().union(*met)]
    order = {g.name: k for k, g in enumerate(coupling.groups)}
    return tuple(sorted((tuple(sorted(s, key=order.__getitem__)) for s in sets), key=lambda s: order[s[0]]))
