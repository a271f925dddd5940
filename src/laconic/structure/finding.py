"""Find a network's coupled groups, and check each of them by trial.

Tracing finds what is coupled. Whether the network's own code works with a smaller group (``view(-1, 800)``
does not) only a trial can show (:mod:`laconic.structure.trials`). Where the smaller network fails, or its
result is not that of the masked one, the group is left whole and a note gives the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from laconic.errors import InputError
from laconic.networks import computed_weights, duplicate, folded, positional, refilled
from laconic.networks.modules import check_tensors
from laconic.networks.wrappers import network_in
from laconic.progress import steps
from laconic.structure.branches import Branches
from laconic.structure.coupling.groups import Coupling, tied_sets, trace_coupling
from laconic.structure.finding_branches import find_branches
from laconic.structure.small_inputs import TOLERANCE, Inputs, few_examples, run_once, smaller_images
from laconic.structure.trials import GroupSet, Trial, agree, failures, merged, that_agree

Example = Tensor | tuple[Tensor, ...] | list[Tensor] | Mapping[str, Any]


def find_groups(module: nn.Module, example: Example, *, seed: int = 0) -> Coupling:
    """Find which units of a network must be removed together, and which layers must stay whole.

    The network is run in evaluation mode on copies, in float64 where it allows that; ``module`` is left as it
    was. Weights that it computes from others (weight norm, spectral norm, the masks of pruning) are taken as
    plain ones, under their own names.

    Args:
        module: The network. Of ``torch.compile``, ``DataParallel`` or an average of weights, the network
            inside.
        example: A small batch as the network takes it, batch first: a tensor, a tuple or list of tensors, or
            a dictionary with the names of ``forward``'s parameters.
        seed: Of the random trials.

    Returns:
        The groups, which of them are tied, which may lose all units, and a note on everything that is left
        whole.

    Raises:
        InputError: The network refuses the example.
        ModelError: The network is scripted.

    >>> net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(6 * 36, 10))
    >>> [(g.name, g.size) for g in find_groups(net, torch.zeros(2, 1, 8, 8)).groups]
    [('0.weight:0', 6)]
    """
    network = network_in(module, "find_groups")
    check_tensors(network, "find_groups")
    view, given = positional(network, example)
    with steps("finding groups"):
        coupling = _coupling(view, given, seed)
    branches = replace(coupling.branches, example=refilled(network, example, coupling.branches.example))
    return replace(coupling, branches=branches, notes=(*_folds(network), *coupling.notes))


def _coupling(view: nn.Module, given: Inputs, seed: int) -> Coupling:
    """Groups and branches of a network that takes its inputs by position."""
    twin, inputs, tolerance = _exact_copy(view, given)
    search = _Search(twin, tolerance, seed)
    small = smaller_images(twin, inputs)
    coupling = search.coupling(small)
    if small is not inputs and not search.holds(coupling, inputs):
        coupling, small = search.coupling(inputs), inputs
    return replace(coupling, branches=search.branches(coupling, small, inputs))


@dataclass(frozen=True, eq=False)
class _Search:
    """Looks for the groups of a private copy in evaluation mode."""

    twin: nn.Module
    tolerance: float
    seed: int

    def coupling(self, inputs: Inputs) -> Coupling:
        """Groups as trials on some inputs prove them."""
        trial = self._trial(inputs)
        trace = partial(trace_coupling, self.twin, tuple(x.clone() for x in inputs))
        outer = trace(outermost=True)
        found, notes = _proved(trial, outer, trace)
        found, more = that_agree(trial, found)
        return Coupling(*merged(found), (*outer.notes, *notes, *more))

    def holds(self, coupling: Coupling, inputs: Inputs) -> bool:
        """Whether all groups together shrink on other inputs, too."""
        sets = [GroupSet.of(coupling, names) for names in tied_sets(coupling)]
        return not sets or self._trial(inputs).failure(sets) is None

    def branches(self, coupling: Coupling, small: Inputs, inputs: Inputs) -> Branches:
        """Branches that trials on small inputs prove one by one, and on the given ones all together."""
        same = partial(agree, tolerance=self.tolerance)
        look = partial(find_branches, self.twin, coupling, agree=same, tolerance=self.tolerance)
        found = look(small, _noisy(small, seed=2))
        if small is inputs or not found.by_group:
            return found
        return look(inputs, _noisy(inputs, seed=2), known=found.by_group)

    def _trial(self, inputs: Inputs) -> Trial:
        return Trial(self.twin, inputs, self.tolerance, np.random.default_rng(self.seed))


def _proved(
    trial: Trial, outer: Coupling, trace: Callable[..., Coupling]
) -> tuple[list[GroupSet], list[str]]:
    """The sets of groups that can be shrunk, and a line on each other one.

    Where an axis splits, the other way is tried before a group is given up.
    """
    sets = [GroupSet.of(outer, names) for names in tied_sets(outer)]
    bad = failures(trial, sets)
    inner: Coupling | None = None
    found, notes = [], []
    for number, tried in enumerate(sets):
        if number not in bad:
            found.append(tried)
            continue
        inner = trace(outermost=False) if inner is None else inner
        others = [s for s in (GroupSet.of(inner, n) for n in tied_sets(inner)) if s.axes <= tried.axes]
        if others and not failures(trial, others):
            found += others
        else:
            notes.append(f"{tried.names} left whole: {bad[number]}")
    return found, notes


def _folds(module: nn.Module) -> list[str]:
    """What the groups' names mean where torch computes weights from others."""
    return [
        f"{name} is computed from other parameters: its groups, and the networks that mask and shrink give, "
        "hold it as a plain weight"
        for name in computed_weights(module)
    ]


def _exact_copy(module: nn.Module, given: Inputs) -> tuple[nn.Module, Inputs, float]:
    """A copy for trials: on the CPU, in evaluation mode, in float64 unless its own code is against it.

    Numbers of the copy are drawn anew (a network that is all zeros would agree with anything).
    """
    plain = folded(module)[0].cpu().eval()
    inputs = tuple(x.detach().cpu().clone() for x in given)
    try:
        outputs = run_once(plain, inputs)
    except (RuntimeError, TypeError, IndexError, ValueError) as error:
        shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
        raise InputError(
            f"{type(module).__name__} refuses the example input {shapes}: {str(error).splitlines()[0]}. "
            "Cure: give a small batch of the shape that the network was trained on, batch first"
        ) from error
    inputs = few_examples(plain, inputs, outputs)
    doubled = tuple(x.double() if x.is_floating_point() else x for x in inputs)
    try:
        exact = duplicate(plain).double()
        run_once(exact, doubled)
    except RuntimeError:
        return _randomised(plain), _noisy(inputs), TOLERANCE[torch.float32]
    return _randomised(exact), _noisy(doubled), TOLERANCE[torch.float64]


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


def _noisy(inputs: Inputs, seed: int = 1) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        x + torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.dtype)
        if x.is_floating_point()
        else x
        for x in inputs
    )
