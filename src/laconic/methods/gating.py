r"""Gates on coupled groups: a unit's value is multiplied by a random z, and units with z = 0 are removed.

A unit's value is multiplied where it is read: the forward pass sees
:math:`W_{ij} z_j` in place of every weight :math:`W` that reads unit j (next layers, recurrent matrices,
depthwise filters' readers). A network whose gate of a unit is zero computes what the network without the unit
does, so that it can be shrunk. One z is drawn for each unit and pass.

A group is left without gates where that does not hold: no weight reads it, or a layer norm (group norm, RMS
norm) averages over its units.

Source: Louizos, Welling & Kingma, Learning Sparse Neural Networks through L0 Regularization, ICLR 2018,
section 2 (gates by group of weights).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from laconic.bayes.gates import Gate
from laconic.errors import InputError, NotPreparedError
from laconic.networks import duplicate
from laconic.networks.noise import NoiseSource
from laconic.networks.policy import NORMALISATIONS
from laconic.records import KeepPlan
from laconic.structure import Coupling, Group
from laconic.structure.coupling.sides import axes_of

PREFIX = "laconic_gate_"
_GATING = "_laconic_gating"
MakeGate = Callable[[Group], Gate]


@dataclass(frozen=True, eq=False)
class _Read:
    """Where one group is read by one weight: ``units[position]`` along ``axis``, -1 for other groups'."""

    group: str
    axis: int
    units: Tensor


class _Gating:
    """What a gated network's root carries: noise, gates by group, who reads them, the present draws."""

    def __init__(self, root: nn.Module, noise: NoiseSource, gates: dict[str, Gate], plain: nn.Module) -> None:
        self.root, self.noise, self.plain = root, noise, plain
        self.like = gates
        self.reads: dict[str, list[_Read]] = {}
        self._depth = 0
        self._drawn: dict[str, Tensor] = {}

    def gate(self, group: str) -> Gate:
        """The gate of a group, over the parameters that the root holds now."""
        like = self.like[group]
        stem = f"{PREFIX}{list(self.like).index(group)}"
        return like.with_parameters({s: getattr(self.root, stem + s) for s in like.parameters()})

    def gated(self, name: str, weight: Tensor) -> Tensor:
        """What a forward pass sees of a weight; outside a pass the weight itself."""
        if self._depth == 0:
            return weight
        for read in self.reads[name]:
            weight = weight * _along(self._draw(read.group), read, weight)
        return weight

    def open(self, module: nn.Module, args: Any) -> None:
        """Forward pre-hook."""
        self._depth += 1

    def close(self, module: nn.Module, args: Any, output: Any) -> None:
        """Forward hook, also called when the pass failed."""
        self._depth = max(0, self._depth - 1)
        if self._depth == 0:
            self._drawn.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_depth": 0, "_drawn": {}}

    def _draw(self, group: str) -> Tensor:
        if group not in self._drawn:
            gate = self.gate(group)
            self._drawn[group] = gate.sample(self.noise) if self.root.training else gate.expectation()
        return self._drawn[group]


def attach_gates(net: nn.Module, coupling: Coupling, make: MakeGate, noise: NoiseSource) -> nn.Module:
    """A copy of a plain network whose units are multiplied by gates in the forward pass.

    The gates' parameters stand on the network's root as ``laconic_gate_<k>_<field>``, so that a state dict
    and an optimiser have them. In training mode a pass draws, in evaluation mode it takes expectations.

    Args:
        net: A plain network; it is left as it was.
        coupling: Its groups (:func:`laconic.sparsify.find_groups`); those of inputs gate parts of the input.
        make: The gate of a group, with one number a unit, as ``lambda group: HardConcrete.open(group.size)``.
        noise: The source of all draws.

    Returns:
        The gated network; :func:`gates_of` lists what is gated.

    Raises:
        InputError: No group can have a gate, or a gate of another size than its group.

    >>> from laconic.bayes.gates import HardConcrete
    >>> from laconic.structure import find_groups
    >>> plain = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> coupling = find_groups(plain, torch.zeros(1, 2))
    >>> net = attach_gates(plain, coupling, lambda g: HardConcrete.open(g.size), NoiseSource(0))
    >>> [(name, tuple(gate.sample(NoiseSource(0)).shape)) for name, gate in gates_of(net).items()]
    [('0.weight:0', (3,)), ('0.weight:1', (2,))]
    """
    reads = {g.name: found for g in coupling.groups if (found := _reads(net, g))}
    if not reads:
        raise InputError(
            f"{type(net).__name__} has nothing to gate: no group of units is read by a weight and free of "
            "layer norms"
        )
    root = duplicate(net)
    device = next(root.parameters()).device
    gates = {name: make(coupling.group(name)) for name in reads}
    for index, (name, gate) in enumerate(gates.items()):
        _check_gate(gate, coupling.group(name))
        for suffix, tensor in gate.parameters().items():
            parameter = tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor.detach().clone())
            root.register_parameter(f"{PREFIX}{index}{suffix}", parameter)
    gating = _Gating(root, noise, gates, duplicate(net))
    for name, found in reads.items():
        for weight, axis, units in found:
            gating.reads.setdefault(weight, []).append(_Read(name, axis, units.to(device)))
    _hand_over(root, gating)
    return root.to(device)


def gates_of(net: nn.Module) -> dict[str, Gate]:
    """The gates of a gated network, over the parameters that it holds now.

    Args:
        net: What :func:`attach_gates` returned, or a copy of it.

    Returns:
        The gates by their groups' names.

    Raises:
        NotPreparedError: A network without gates.

    >>> from laconic.bayes.gates import HardConcrete
    >>> from laconic.structure import find_groups
    >>> plain = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> coupling = find_groups(plain, torch.zeros(1, 2))
    >>> make = lambda group: HardConcrete(torch.linspace(-4.0, 4.0, group.size))
    >>> net = attach_gates(plain, coupling, make, NoiseSource(0))
    >>> gates_of(net)["0.weight:0"].keep().tolist()
    [False, True, True]
    """
    gating = _gating(net)
    return {name: gating.gate(name) for name in gating.like}


def gates_plan(net: nn.Module, coupling: Coupling) -> KeepPlan:
    """The units that their gates keep; a group keeps its most open unit at least, unless its branch may go.

    Groups that must keep equally many keep as many as the one that keeps most.

    Args:
        net: What :func:`attach_gates` returned, or a copy of it.
        coupling: The groups that it was made with.

    Returns:
        The units that stay, by group.

    Raises:
        NotPreparedError: A network without gates.

    >>> from laconic.bayes.gates import HardConcrete
    >>> from laconic.structure import find_groups
    >>> plain = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> coupling = find_groups(plain, torch.zeros(1, 2))
    >>> make = lambda group: HardConcrete(torch.linspace(-4.0, 4.0, group.size))
    >>> net = attach_gates(plain, coupling, make, NoiseSource(0))
    >>> gates_plan(net, coupling).kept
    {'0.weight:0': (1, 2), '0.weight:1': (1,)}
    """
    values = {n: (g.keep(), g.expectation().detach()) for n, g in gates_of(net).items()}
    counts = {n: max(int(keep.sum()), int(n not in coupling.branches)) for n, (keep, _) in values.items()}
    for names in coupling.tied:
        whole = any(n not in counts for n in names)
        most = max((counts.get(n, coupling.group(n).size) for n in names), default=0)
        for name in (n for n in names if n in counts):
            counts[name] = coupling.group(name).size if whole else most
    kept: dict[str, tuple[int, ...]] = {}
    for name, (keep, value) in values.items():
        order = torch.argsort(value + 2.0 * keep, descending=True, stable=True)
        kept[name] = tuple(sorted(order[: counts[name]].tolist()))
    return KeepPlan(kept, {n: coupling.group(n).size for n in kept})


def fold_gates(net: nn.Module, plan: KeepPlan | None = None) -> nn.Module:
    """The plain network again, its weights multiplied by the gates' expectations.

    Args:
        net: What :func:`attach_gates` returned, or a copy of it; it is left as it was.
        plan: The units that stay (:func:`gates_plan`): all others are multiplied by zero, so that
            :func:`laconic.sparsify.shrink` by the same plan changes nothing. None: expectations alone.

    Returns:
        A plain network.

    Raises:
        NotPreparedError: A network without gates.

    >>> from laconic.bayes.gates import HardConcrete
    >>> from laconic.structure import find_groups
    >>> plain = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> coupling = find_groups(plain, torch.zeros(1, 2))
    >>> make = lambda group: HardConcrete(torch.linspace(-4.0, 4.0, group.size))
    >>> net = attach_gates(plain, coupling, make, NoiseSource(0))
    >>> (fold_gates(net)[2].weight == 0).tolist()  # the first unit's gate is closed
    [[True, False, False]]
    """
    gating = _gating(net)
    plain = duplicate(gating.plain)
    source = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    factors = {}
    for name, gate in gates_of(net).items():
        factors[name] = gate.expectation().detach().clone()
        if plan is not None and name in plan.kept:
            factors[name][list(plan.removed(name))] = 0.0
    with torch.no_grad():
        for name, tensor in (*plain.named_parameters(), *plain.named_buffers()):
            value = source[name]
            for read in gating.reads.get(name, ()):
                value = value * _along(factors[read.group], read, value)
            tensor.data = value.detach().clone()
    return plain.train(net.training)


def _along(z: Tensor, read: _Read, weight: Tensor) -> Tensor:
    """One factor for each position of the reading axis, shaped to multiply the weight."""
    factor = torch.cat([z, z.new_ones(1)])[read.units]  # position -1: another group's unit
    return factor.reshape([-1 if axis == read.axis else 1 for axis in range(weight.ndim)])


def _reads(net: nn.Module, group: Group) -> list[tuple[str, int, Tensor]]:
    """The weights that read a group: name, axis, units; none where its units cannot be gated one by one."""
    found = []
    for member in group.members:
        owner, _, _ = member.tensor.rpartition(".")
        module = _module(net, owner)
        if isinstance(module, NORMALISATIONS) and not isinstance(module, _NormBase):
            return []
        if axes_of(net, member.tensor)[1] == member.axis:
            found.append((member.tensor, member.axis, torch.from_numpy(np.asarray(member.units)).long()))
    return found


def _module(net: nn.Module, name: str) -> nn.Module | None:
    try:
        return net.get_submodule(name)
    except AttributeError:  # an input, which is no tensor of the network
        return None


def _check_gate(gate: Any, group: Group) -> None:
    told = f"the gate of group {group.name!r}"
    if not isinstance(gate, Gate):
        raise InputError(
            f"{told} is a {type(gate).__name__}. Cure: an object of a class of laconic.bayes.Gate"
        )
    shapes = {s: tuple(p.shape) for s, p in gate.parameters().items()}
    if any(shape != (group.size,) for shape in shapes.values()):
        raise InputError(
            f"{told} has parameters of shapes {shapes}. Cure: ({group.size},), one number a unit"
        )


def _hand_over(root: nn.Module, gating: _Gating) -> None:
    """Let every layer that reads a gated group see its weights multiplied."""
    by_module: dict[nn.Module, dict[str, str]] = {}
    for name in gating.reads:
        owner, _, own = name.rpartition(".")
        by_module.setdefault(root.get_submodule(owner), {})[own] = name
    for module, names in by_module.items():
        module.__dict__[_GATING + "_names"] = names
        module.__class__ = _gated_class(type(module), tuple(names))
    for module in {root, *by_module}:
        module.__dict__[_GATING] = gating
    root.register_forward_pre_hook(gating.open)
    root.register_forward_hook(gating.close, always_call=True)


def _gated_class(plain: type[nn.Module], names: tuple[str, ...]) -> type[nn.Module]:
    members: Mapping[str, Any] = {name: _read(name) for name in names}
    return type(f"Gated{plain.__name__}", (plain,), {"__module__": plain.__module__, **members})


def _read(name: str) -> property:
    def read(self: nn.Module) -> Tensor | None:
        weight = self._parameters[name]
        gating = self.__dict__.get(_GATING)
        return (
            weight
            if weight is None or gating is None
            else gating.gated(self.__dict__[_GATING + "_names"][name], weight)
        )

    return property(read, doc=f"The parameter {name!r} times the gates of the units that it reads.")


def _gating(net: nn.Module) -> _Gating:
    found = net.__dict__.get(_GATING)
    if found is None:
        raise NotPreparedError(f"{type(net).__name__} has no gates. Cure: attach_gates(net, ...) first")
    return cast(_Gating, found)
