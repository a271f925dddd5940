r"""Gates on coupled groups: a unit's value is multiplied by a random z, and units with z = 0 are removed.

A unit's value is multiplied where it is read: the forward pass sees
:math:`W_{ij} z_j` in place of every weight :math:`W` that reads unit j (next layers, recurrent matrices,
depthwise filters' readers). A network whose gate of a unit is zero computes what the network without the unit
does, so that it can be shrunk. One z is drawn for each unit and pass.

A layer norm or RMS norm averages over units before any weight reads them, and would count a closed unit. In
a group that passes through one, the tensors that make unit j are multiplied in place of those that read it:
rows of weights, biases, and the norms' own scales and shifts,

.. math:: x_j = z_j\,(W_{j\cdot}\,h + b_j), \qquad
          y_j = z_j\,\Big(w_j\frac{x_j - m(x)}{s(x)} + b'_j\Big).

The moments m and s then are those of :class:`laconic.structure.narrow.NarrowLayerNorm`: a closed unit is a
zero that still counts in the width. A value that several such tensors make one after another (a depthwise
filter, a scale by channel) has one factor z of each. Weights that read a closed unit are multiplied by zero
in addition, since an activation may map zero to another number. A group norm needs none of this: its units
are whole groups of channels, each with moments of its own.

A group that no weight reads is left without gates.

Source: Louizos, Welling & Kingma, Learning Sparse Neural Networks through L0 Regularization, ICLR 2018,
section 2 (gates by group of weights).
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from laconic.bayes.gates import Gate
from laconic.bayes.prepare import draw_from, plain_copy, posteriors_of
from laconic.errors import InputError, NotPreparedError
from laconic.methods.gated_layers import GATING, NAMES, gated_class
from laconic.networks import computed_weights, duplicate
from laconic.networks.noise import NoiseSource
from laconic.networks.stochastic import add_stochastic
from laconic.records import KeepPlan
from laconic.structure import Coupling, Group
from laconic.structure.by_score import plan_of_scores
from laconic.structure.coupling.groups import Member
from laconic.structure.coupling.sides import axes_of

PREFIX = "laconic_gate_"
MakeGate = Callable[[Group], Gate]


@dataclass(frozen=True, eq=False)
class _Factor:
    """What multiplies one axis of one tensor: the gate of ``units[position]``, 1 where that is -1.

    ``present``: not z itself, but 1 where z is not zero.
    """

    group: str
    axis: int
    units: Tensor
    present: bool

    def along(self, z: Tensor, weight: Tensor) -> Tensor:
        """The factors of all positions, shaped to multiply the tensor."""
        z = (z.detach() != 0).to(z.dtype) if self.present else z
        factors = torch.cat([z, z.new_ones(1)])[self.units]  # position -1: another group's unit
        return factors.reshape([-1 if axis == self.axis else 1 for axis in range(weight.ndim)])


class _Gating:
    """What a gated network's root carries: noise, gates by group, what they multiply, the present draws."""

    def __init__(self, root: nn.Module, noise: NoiseSource, gates: dict[str, Gate], plain: nn.Module) -> None:
        self.root, self.noise, self.plain = root, noise, plain
        self.like = gates
        self.sampling = False
        self.factors: dict[str, list[_Factor]] = {}
        self._depth = 0
        self._drawn: dict[str, Tensor] = {}

    def gate(self, group: str) -> Gate:
        """The gate of a group, over the parameters that the root holds now."""
        like = self.like[group]
        stem = f"{PREFIX}{list(self.like).index(group)}"
        return like.with_parameters({s: getattr(self.root, stem + s) for s in like.parameters()})

    def gated(self, name: str, weight: Tensor) -> Tensor:
        """What a forward pass sees of a weight; outside a pass the weight itself."""
        factor = self.factor(name, weight)
        return weight if factor is None else weight * factor

    def factor(self, name: str, weight: Tensor) -> Tensor | None:
        """What multiplies a weight in the present pass, shaped to multiply it; None outside a pass."""
        if self._depth == 0:
            return None
        found = [factor.along(self._draw(factor.group), weight) for factor in self.factors[name]]
        return functools.reduce(operator.mul, found)

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
            self._drawn[group] = (
                gate.sample(self.noise) if self.root.training or self.sampling else gate.expectation()
            )
        return self._drawn[group]


def attach_gates(net: nn.Module, coupling: Coupling, make: MakeGate, noise: NoiseSource) -> nn.Module:
    """A copy of a network whose units are multiplied by gates in the forward pass.

    The gates' parameters stand on the network's root as ``laconic_gate_<k>_<field>``, so that a state dict
    and an optimiser have them. In training mode a pass draws, in evaluation mode it takes expectations.

    Args:
        net: A plain network, or one with posteriors (``make_bayesian``), whose weights are drawn given the
            gates; it is left as it was.
        coupling: Its groups (:func:`laconic.sparsify.find_groups`); those of inputs gate parts of the input.
        make: The gate of a group, with one number a unit, as ``lambda group: HardConcrete.open(group.size)``.
        noise: The source of all draws.

    Returns:
        The gated network; :func:`gates_of` lists what is gated.

    Raises:
        InputError: No group can have a gate, a gate of another size than its group, or a network that
            computes weights from others (weight norm).

    >>> from laconic.bayes.gates import HardConcrete
    >>> from laconic.structure import find_groups
    >>> plain = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> coupling = find_groups(plain, torch.zeros(1, 2))
    >>> net = attach_gates(plain, coupling, lambda g: HardConcrete.open(g.size), NoiseSource(0))
    >>> [(name, tuple(gate.sample(NoiseSource(0)).shape)) for name, gate in gates_of(net).items()]
    [('0.weight:0', (3,)), ('0.weight:1', (2,))]
    """
    if computed := computed_weights(net):
        raise InputError(
            f"{type(net).__name__} computes {computed[0]!r} from other parameters. Cure: "
            "attach_gates(laconic.networks.folded(net)[0], ...), where it is a plain one"
        )
    owners = _owners(net)
    factors = {g.name: found for g in coupling.groups if (found := _factors(net, g, owners))}
    if not factors:
        raise InputError(
            f"{type(net).__name__} has nothing to gate: no group of units is read by a weight. Cure: a "
            "network with hidden units, and the coupling that find_groups returns for it"
        )
    root = duplicate(net)
    if posteriors_of(root):
        draw_from(root, noise)
    device = next(root.parameters()).device
    gates = {name: make(coupling.group(name)) for name in factors}
    for index, (name, gate) in enumerate(gates.items()):
        _check_gate(gate, coupling.group(name))
        for suffix, tensor in gate.parameters().items():
            parameter = tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor.detach().clone())
            root.register_parameter(f"{PREFIX}{index}{suffix}", parameter)
    gating = _Gating(root, noise, gates, duplicate(net))
    for found in factors.values():
        for weight, factor in found:
            moved = replace(factor, units=factor.units.to(device))
            gating.factors.setdefault(weight, []).append(moved)
    _hand_over(root, gating, owners)
    add_stochastic(root, gating)
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
    gating = gating_of(net)
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
    return plan_of_scores(
        {n: k for n, (k, _) in values.items()}, {n: v for n, (_, v) in values.items()}, coupling
    )


def fold_gates(net: nn.Module, plan: KeepPlan | None = None) -> nn.Module:
    """The plain network again, its weights (or their posterior means) times the gates' expectations.

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
    gating = gating_of(net)
    plain = plain_copy(net) if posteriors_of(net) else duplicate(gating.plain)
    source = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    factors = {}
    for name, gate in gates_of(net).items():
        factors[name] = gate.expectation().detach().clone()
        if plan is not None and name in plan.kept:
            factors[name][list(plan.removed(name))] = 0.0
    with torch.no_grad():
        for name, tensor in (*plain.named_parameters(), *plain.named_buffers()):
            value = source[name]
            for factor in gating.factors.get(name, ()):
                value = value * factor.along(factors[factor.group], value)
            tensor.data = value.detach().clone()
    return plain.train(net.training)


def _owners(net: nn.Module) -> dict[str, list[str]]:
    """By the name of each tensor all names under which modules hold it: several where it is tied."""
    names: dict[int, list[str]] = {}
    for place, module in net.named_modules():
        for own, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                names.setdefault(id(tensor), []).append(f"{place}.{own}" if place else own)
    return {found[0]: found for found in names.values()}


def _factors(net: nn.Module, group: Group, owners: Mapping[str, list[str]]) -> list[tuple[str, _Factor]]:
    """By tensor what the gates of a group multiply; none where its units cannot be gated one by one."""
    holders = {member.tensor: _holder(net, member.tensor) for member in group.members}
    normed = any(isinstance(holder, (nn.LayerNorm, nn.RMSNorm)) for holder in holders.values())
    found = []
    for member in group.members:
        makes, reads = _sides(net, member, owners)
        holder, own = holders[member.tensor], member.tensor.rpartition(".")[2]
        statistic = isinstance(holder, _NormBase) and own in holder._buffers  # of what is multiplied already
        if reads or (normed and makes and not statistic):
            units = torch.from_numpy(np.asarray(member.units)).long()
            found.append((member.tensor, _Factor(group.name, member.axis, units, normed and not makes)))
    return found


def _sides(net: nn.Module, member: Member, owners: Mapping[str, list[str]]) -> tuple[bool, bool]:
    """Whether a tensor makes units along a member's axis, and whether it reads them (both if it is tied)."""
    reads = {axes_of(net, name)[1] == member.axis for name in owners.get(member.tensor, ())}
    return False in reads, True in reads


def _holder(net: nn.Module, tensor: str) -> nn.Module | None:
    """The module that holds a tensor; None for an input, which is no tensor of the network."""
    try:
        return net.get_submodule(tensor.rpartition(".")[0])
    except AttributeError:
        return None


def _check_gate(gate: Any, group: Group) -> None:
    told = f"the gate of group {group.name!r}"
    if not isinstance(gate, Gate):
        raise InputError(
            f"{told} is a {type(gate).__name__}. Cure: an object of a class of laconic.bayes.Gate"
        )
    shapes = {s: tuple(p.shape) for s, p in gate.parameters().items()}
    shared = (1,) in shapes.values() and (group.size,) in shapes.values()
    if any(shape not in ((group.size,), (1,) if shared else ()) for shape in shapes.values()):
        raise InputError(
            f"{told} has parameters of shapes {shapes}. Cure: ({group.size},), one number a unit, or (1,) "
            "beside those, where the units share a number"
        )


def _hand_over(root: nn.Module, gating: _Gating, owners: Mapping[str, list[str]]) -> None:
    """Let every layer that holds a tensor of a gated group see it multiplied."""
    by_module: dict[nn.Module, dict[str, str]] = {}
    for name in gating.factors:
        for alias in owners[name]:
            owner, _, own = alias.rpartition(".")
            by_module.setdefault(root.get_submodule(owner), {})[own] = name
    for module, names in by_module.items():
        module.__dict__[NAMES] = names
        module.__class__ = gated_class(type(module), tuple(names))
    for module in {root, *by_module}:
        module.__dict__[GATING] = gating
    root.register_forward_pre_hook(gating.open)
    root.register_forward_hook(gating.close, always_call=True)


def gating_of(net: nn.Module) -> _Gating:
    """What a gated network's root carries; raises NotPreparedError for a network without gates."""
    found = net.__dict__.get(GATING)
    if found is None:
        raise NotPreparedError(f"{type(net).__name__} has no gates. Cure: attach_gates(net, ...) first")
    return cast(_Gating, found)
