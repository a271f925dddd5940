"""Find a network's coupled groups, and prove each of them by trial.

Tracing says what is coupled; whether the network's own code survives a smaller group (``view(-1, 800)`` does
not) only a trial can say. Every group is shrunk once at random: where the smaller network fails, or its
result is not that of the masked one, the group is left whole and the report says why.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from laconic.errors import InputError
from laconic.records import KeepPlan
from laconic.sparsify.coupling.groups import Coupling, Group, trace_coupling
from laconic.sparsify.find_branches import find_branches
from laconic.sparsify.selection import tied_sets
from laconic.sparsify.shrink import mask, shrink

_DRAWS = 8
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-4}


def find_groups(module: nn.Module, example: Tensor | tuple[Tensor, ...], *, seed: int = 0) -> Coupling:
    """Which units of a network live and die together, and which layers must stay whole.

    ``example`` is a small batch as the network takes it (a tensor, or a tuple of them), batch first. The
    network is run in evaluation mode on copies, in float64 where it allows that; ``module`` is left as it
    was.

    Raises InputError when the network refuses the example.

    >>> net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(6 * 36, 10))
    >>> [(g.name, g.size) for g in find_groups(net, torch.zeros(2, 1, 8, 8)).groups]
    [('0.weight:0', 6)]
    """
    given = example if isinstance(example, tuple) else (example,)
    twin, inputs, tolerance = _exact_copy(module, given)
    trial = _Trial(twin, inputs, tolerance, np.random.default_rng(seed))
    outer, inner = (trace_coupling(copy.deepcopy(twin), inputs, outermost=way) for way in (True, False))
    notes = list(outer.notes)
    found: list[_Set] = []
    for names in tied_sets(outer):
        tried = _Set.of(outer, names)
        reason = trial.failure([tried])
        if reason is None:
            found.append(tried)
            continue
        others = [s for s in map(partial(_Set.of, inner), tied_sets(inner)) if s.axes <= tried.axes]
        if others and all(trial.failure([s]) is None for s in others):
            found += others
        else:
            notes.append(f"{', '.join(names)} left whole: {reason}")
    if len(found) > 1 and trial.failure(found) is not None:
        found, more = _that_agree(trial, found)
        notes += more
    coupling = Coupling(*_merged(found), tuple(notes))
    agree = partial(_agree, tolerance=tolerance)
    branches = find_branches(twin, coupling, inputs, _noisy(inputs, seed=2), agree, tolerance)
    return replace(coupling, branches=branches)


@dataclass(frozen=True, eq=False)
class _Set:
    """Groups to be shrunk at once, since they must keep equally many units; mostly one."""

    groups: tuple[Group, ...]
    tied: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, coupling: Coupling, names: Sequence[str]) -> _Set:
        """Some groups of a coupling, and what ties them."""
        groups = tuple(g for g in coupling.groups if g.name in names)
        return cls(groups, tuple(t for t in coupling.tied if set(t) <= set(names)))

    @property
    def axes(self) -> frozenset[tuple[str, int]]:
        """Every (tensor, axis) that the groups reach."""
        return Coupling(self.groups).axes


def _merged(sets: Sequence[_Set]) -> tuple[tuple[Group, ...], tuple[tuple[str, ...], ...]]:
    return tuple(g for s in sets for g in s.groups), tuple(t for s in sets for t in s.tied)


def _exact_copy(
    module: nn.Module, example: tuple[Tensor, ...]
) -> tuple[nn.Module, tuple[Tensor, ...], float]:
    """A copy for trials: on the CPU, in evaluation mode, in float64 unless its own code is against it.

    Numbers of the copy are drawn anew (a network that is all zeros would agree with anything).
    """
    for k, x in enumerate(example):
        if not isinstance(x, Tensor):
            raise InputError(
                f"example input {k} must be a tensor, got {type(x).__name__}. Cure: torch.as_tensor"
            )
    plain = copy.deepcopy(module).cpu().eval()
    inputs = tuple(x.detach().cpu().clone() for x in example)
    try:
        with torch.no_grad():
            plain(*inputs)
    except (RuntimeError, TypeError, IndexError, ValueError) as error:
        shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
        raise InputError(
            f"{type(module).__name__} refuses the example input {shapes}: {str(error).splitlines()[0]}. "
            "Cure: give a small batch of the shape that the network was trained on, batch first"
        ) from error
    exact = copy.deepcopy(plain).double()
    doubled = tuple(x.double() if x.is_floating_point() else x for x in inputs)
    try:
        with torch.no_grad():
            exact(*doubled)
    except RuntimeError:
        return _randomised(plain), _noisy(inputs), _TOLERANCE[torch.float32]
    return _randomised(exact), _noisy(doubled), _TOLERANCE[torch.float64]


def _randomised(module: nn.Module) -> nn.Module:
    """Parameters moved a little off where they are, running moments made plausible."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in module.parameters():
            if p.is_floating_point():
                spread = float(p.std()) if p.numel() > 1 and bool(torch.isfinite(p).all()) else 0.0
                noise = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)
                p.nan_to_num_(0.0, 0.0, 0.0).add_(noise * max(0.1 * spread, 0.02))
    return module


def _noisy(inputs: tuple[Tensor, ...], seed: int = 1) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        x + torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.dtype)
        if x.is_floating_point()
        else x
        for x in inputs
    )


class _Trial:
    """Shrinks groups at random and compares with the masked network."""

    def __init__(
        self, module: nn.Module, inputs: tuple[Tensor, ...], tolerance: float, rng: np.random.Generator
    ) -> None:
        self._module, self._inputs, self._tolerance, self._rng = module, inputs, tolerance, rng

    def failure(self, sets: Sequence[_Set]) -> str | None:
        """Why these groups cannot be shrunk together, in a few words, or None when they can."""
        coupling = Coupling(*_merged(sets))
        try:
            small, plan = self._shrunk(coupling)
            with torch.no_grad():
                got = small(*self._inputs)
        except Exception as error:  # noqa: BLE001 - the network's own code may fail in any way
            return f"the smaller network fails ({type(error).__name__}: {_one_line(error)})"
        with torch.no_grad():
            expected = mask(self._module, coupling, plan)(*self._inputs)
        return (
            None if _agree(got, expected, self._tolerance) else "the smaller network computes something else"
        )

    def _shrunk(self, coupling: Coupling) -> tuple[nn.Module, KeepPlan]:
        """A random plan carried out; one that no network may have (see ``shrink``) is drawn again."""
        for _ in range(_DRAWS):
            plan = random_plan(coupling, self._rng)
            try:
                return shrink(self._module, coupling, plan), plan
            except InputError:
                continue
        return shrink(self._module, coupling, plan), plan


def random_plan(coupling: Coupling, rng: np.random.Generator) -> KeepPlan:
    """A plan that keeps a random part of each group; groups that are tied keep equally many.

    >>> from laconic.sparsify import Group
    >>> plan = random_plan(Coupling((Group("w:0", 5, ()),)), np.random.default_rng(0))
    >>> 1 <= len(plan.kept["w:0"]) < 5
    True
    """
    kept: dict[str, tuple[int, ...]] = {}
    sizes = {g.name: g.size for g in coupling.groups}
    for names in tied_sets(coupling):
        count = int(rng.integers(1, min(sizes[name] for name in names)))
        for name in names:
            kept[name] = tuple(sorted(rng.choice(sizes[name], count, replace=False).tolist()))
    return KeepPlan(kept, sizes)


def _that_agree(trial: _Trial, sets: Sequence[_Set]) -> tuple[list[_Set], list[str]]:
    """As many sets as shrink together, added one by one."""
    good: list[_Set] = []
    notes = []
    for new in sets:
        if trial.failure([*good, new]) is None:
            good.append(new)
        else:
            names = ", ".join(g.name for g in new.groups)
            notes.append(f"{names} left whole: it cannot shrink together with what comes before it")
    return good, notes


def _agree(got: Any, expected: Any, tolerance: float) -> bool:
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
