"""Trials: groups are shrunk at random, and the smaller network is compared with the masked one.

The network of a trial is a private copy, so it is masked in place, and a smaller network shares with it every
parameter that stays whole. Many groups are tried at once: each is cut in some trials and whole in others, and
no other group is cut in exactly the same trials (see :func:`designs`). Only where a trial fails is
it repeated with half of its groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from math import comb
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from laconic.errors import InputError
from laconic.networks import inference, sharing
from laconic.progress import steps
from laconic.records import KeepPlan
from laconic.structure.coupling.groups import Coupling, Group, tied_sets
from laconic.structure.plan import check_plan
from laconic.structure.shrinking import carried_out, masked

_DRAWS = 8


@dataclass(frozen=True, eq=False)
class GroupSet:
    """Groups to be shrunk at once, since they must keep equally many units; mostly one."""

    groups: tuple[Group, ...]
    tied: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, coupling: Coupling, names: Sequence[str]) -> GroupSet:
        """Some groups of a coupling, and what ties them."""
        groups = tuple(g for g in coupling.groups if g.name in names)
        return cls(groups, tuple(t for t in coupling.tied if set(t) <= set(names)))

    @property
    def axes(self) -> frozenset[tuple[str, int]]:
        """Every (tensor, axis) that the groups reach."""
        return Coupling(self.groups).axes

    @property
    def names(self) -> str:
        """The groups' names, for a report."""
        return ", ".join(g.name for g in self.groups)


def merged(sets: Sequence[GroupSet]) -> tuple[tuple[Group, ...], tuple[tuple[str, ...], ...]]:
    """All groups and all ties of some sets."""
    return tuple(g for s in sets for g in s.groups), tuple(t for s in sets for t in s.tied)


class Trial:
    """Shrinks groups at random and compares with the masked network.

    ``module`` is a private copy in evaluation mode; ``tolerance`` is the largest difference between two equal
    results, relative to the largest number.
    """

    def __init__(
        self, module: nn.Module, inputs: tuple[Tensor, ...], tolerance: float, rng: np.random.Generator
    ) -> None:
        self._module, self._inputs, self._tolerance, self._rng = module, inputs, tolerance, rng

    def failure(self, sets: Sequence[GroupSet]) -> str | None:
        """Why these groups cannot be shrunk together, in a few words, or None when they can."""
        coupling = Coupling(*merged(sets))
        try:
            small, plan = self._shrunk(coupling)
            with inference():
                got = small(*self._given())
        except Exception as error:  # noqa: BLE001 - the network's own code may fail in any way
            return f"the smaller network fails ({type(error).__name__}: {_one_line(error)})"
        with inference(), masked(self._module, coupling, plan):
            expected = self._module(*self._given())
        same = agree(got, expected, self._tolerance)
        return None if same else "the smaller network computes something else"

    def _given(self) -> tuple[Tensor, ...]:
        """The inputs, into which a network may write."""
        return tuple(x.clone() for x in self._inputs)

    def _shrunk(self, coupling: Coupling) -> tuple[nn.Module, KeepPlan]:
        """A random plan carried out; one that no network may have (see ``shrink``) is drawn again."""
        for left in reversed(range(_DRAWS)):
            plan = random_plan(coupling, self._rng, at_least=0.5)
            check_plan(plan, coupling)
            try:
                return carried_out(sharing(self._module), coupling, plan), plan
            except InputError:
                if not left:
                    raise
        raise InputError("no plan was drawn")


def random_plan(coupling: Coupling, rng: np.random.Generator, *, at_least: float = 0.0) -> KeepPlan:
    """A plan that keeps a random part of each group; groups that are tied keep equally many.

    ``at_least`` is the smallest share that is kept of a group of more than two: a network of a few units may
    give the same result for every input, which would hide a mistake.

    >>> from laconic.structure import Group
    >>> plan = random_plan(Coupling((Group("w:0", 5, ()),)), np.random.default_rng(0))
    >>> 1 <= len(plan.kept["w:0"]) < 5
    True
    """
    kept: dict[str, tuple[int, ...]] = {}
    sizes = {g.name: g.size for g in coupling.groups}
    for names in tied_sets(coupling):
        smallest = min(sizes[name] for name in names)
        count = int(rng.integers(max(1, min(smallest - 1, int(smallest * at_least))), smallest))
        for name in names:
            kept[name] = tuple(sorted(rng.choice(sizes[name], count, replace=False).tolist()))
    return KeepPlan(kept, sizes)


def designs(count: int) -> list[list[int]]:
    """Which of ``count`` things take part in which trial: the fewest trials that distinguish any two of them.

    Each takes part in half of the trials, and no two take part in exactly the same ones: of any two, some
    trial has the one without the other.

    >>> designs(3)
    [[0, 1], [0, 2], [1, 2]]
    >>> len(designs(100))
    9

    Source: Sperner, Ein Satz über Untermengen einer endlichen Menge, Mathematische Zeitschrift 27, 1928.
    """
    trials = next(t for t in range(1, count + 2) if comb(t, (t + 1) // 2) >= count)
    chosen = islice(combinations(range(trials), (trials + 1) // 2), count)
    parts: list[list[int]] = [[] for _ in range(trials)]
    for number, where in enumerate(chosen):
        for trial in where:
            parts[trial].append(number)
    return [part for part in parts if part]


_LEAST = 4
"""Random plans that each group is tried with: a mistake may agree with one by chance."""


def failures(trial: Trial, sets: Sequence[GroupSet]) -> dict[int, str]:
    """The numbers of those sets that cannot be shrunk, each with the reason."""
    bad: dict[int, str] = {}
    parts = designs(len(sets)) if sets else []
    draws = sum(0 in part for part in parts)  # the same for each: all take part in as many trials
    parts *= -(-_LEAST // draws) if draws else 0
    with steps("trials", len(parts)) as advance:
        for part in parts:
            bad |= _bad_among(trial, sets, [k for k in part if k not in bad])
            advance()
    return bad


def _bad_among(trial: Trial, sets: Sequence[GroupSet], numbers: Sequence[int]) -> dict[int, str]:
    """Which of these fail by themselves, found by halving."""
    reason = trial.failure([sets[k] for k in numbers]) if numbers else None
    if reason is None:
        return {}
    if len(numbers) == 1:
        return {numbers[0]: reason}
    middle = len(numbers) // 2
    return _bad_among(trial, sets, numbers[:middle]) | _bad_among(trial, sets, numbers[middle:])


def that_agree(trial: Trial, sets: Sequence[GroupSet]) -> tuple[list[GroupSet], list[str]]:
    """As many sets as shrink together, added one by one, and a line on each other one."""
    if len(sets) < 2 or trial.failure(sets) is None:
        return list(sets), []
    good: list[GroupSet] = []
    notes = []
    for new in sets:
        if trial.failure([*good, new]) is None:
            good.append(new)
        else:
            notes.append(f"{new.names} left whole: it cannot shrink together with what comes before it")
    return good, notes


def agree(got: Any, expected: Any, tolerance: float) -> bool:
    """Whether two results of a network are equal up to rounding."""
    a, b = ([t for t in tree_leaves(tree) if isinstance(t, Tensor)] for tree in (got, expected))
    return len(a) == len(b) and all(_close(x, y, tolerance) for x, y in zip(a, b, strict=True))


def _close(got: Tensor, expected: Tensor, tolerance: float) -> bool:
    if got.shape != expected.shape or got.dtype != expected.dtype:
        return False
    if not got.is_floating_point():
        return bool((got == expected).all())
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    return bool(((got - expected).abs() <= tolerance * max(scale, 1e-3)).all())


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
