r"""Networks whose coupled units have gates: made, counted, and decided; what methods with gates share.

With the probability :math:`P_u` that unit u is open, a weight of a tensor t is there if the units of all its
axes are. The expected number of weights, and of multiply-accumulates of one example, is a product of sums,

.. math:: E_t = n_t \prod_{axes} \Big(\text{positions that stay} + \sum_{u} c_u P_u\Big),

with :math:`c_u` positions of the axis for each unit, and :math:`n_t` 1 or the uses of each weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from laconic.errors import InputError
from laconic.methods.common.grid_choice import GridChoice, finish
from laconic.methods.common.norms import better_norms
from laconic.methods.common.point import on_a_grid
from laconic.methods.common.units import unit_facts
from laconic.methods.contract import Compressed, Context, Judge
from laconic.methods.gating import MakeGate, attach_gates, fold_gates, gates_of
from laconic.networks import duplicate
from laconic.networks.policy import weights_of
from laconic.networks.probe import check_model
from laconic.records import KeepPlan
from laconic.structure import Coupling, find_groups, shrink
from laconic.structure.coupling.groups import left_whole, without_inputs
from laconic.structure.macs import WeightMacs, weight_macs

_ATTACHED = "_laconic_gated_groups"


def gate_units(
    model: nn.Module, example: Any, context: Context, make: MakeGate, *, inputs: bool = False
) -> nn.Module:
    """A copy of a network in which every coupled unit that may go has a gate.

    Args:
        model: A plain network; it is left as it was.
        example: One input batch.
        context: The noise, and the tensors that the user keeps: their groups have no gates.
        make: The gate of a group.
        inputs: Whether parts of the network's input have gates, too.

    Returns:
        The gated network; :func:`gated_groups` gives what was found.

    Raises:
        InputError: No group of units can be removed; the message says why.

    >>> from laconic.bayes.gates import HardConcrete
    >>> from laconic.methods.gating import gates_of
    >>> from laconic.networks.noise import NoiseSource
    >>> layers = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> context = Context(data_size=9, noise=NoiseSource(0))
    >>> net = gate_units(layers, torch.zeros(1, 2), context, lambda g: HardConcrete.open(g.size))
    >>> list(gates_of(net))
    ['0.weight:0']
    """
    check_model(model, example)
    found = find_groups(model, example)
    coupling = found if inputs else without_inputs(found)
    kept = [g.name for g in coupling.groups if any(context.policy.keeps(m.tensor) for m in g.members)]
    coupling = left_whole(coupling, kept, "keep names one of its tensors")
    if not coupling.groups:
        told = "; ".join(coupling.notes) or "its layers are all inputs or outputs"
        raise InputError(
            f"{type(model).__name__} has no group of units that could be removed: {told}. Cure: a network "
            "with hidden units, fewer names in keep, or a method for single weights, as SparseVD()"
        )
    net = attach_gates(model, coupling, make, context.noise)
    net.__dict__[_ATTACHED] = (coupling, weight_macs(duplicate(model), coupling, example))
    return net


def gated_groups(net: nn.Module) -> tuple[Coupling, WeightMacs]:
    """The groups and the multiply-accumulates that :func:`gate_units` found."""
    coupling, macs = net.__dict__[_ATTACHED]
    return coupling, macs


def gate_parameters(net: nn.Module) -> list[nn.Parameter]:
    """The parameters of all gates."""
    wanted = {id(t) for gate in gates_of(net).values() for t in gate.parameters().values()}
    return [p for p in net.parameters() if id(p) in wanted]


def split_groups(net: nn.Module, apart: list[nn.Parameter], lr: float, ratio: float) -> list[dict[str, Any]]:
    """Optimiser groups: parameters at ``lr``, those ``apart`` at ``ratio * lr`` and never decayed."""
    ids = {id(p) for p in apart}
    rest = [p for p in net.parameters() if id(p) not in ids]
    return [{"params": rest, "lr": lr}, {"params": apart, "lr": lr * ratio, "weight_decay": 0.0}]


def clamp_gates(net: nn.Module, low: float, high: float) -> None:
    """Keep all parameters of all gates inside [low, high], in place."""
    with torch.no_grad():
        for parameter in gate_parameters(net):
            parameter.clamp_(low, high)


def expected_counts(
    net: nn.Module, open_shares: Mapping[str, Tensor], *, macs: bool = False
) -> dict[str, Tensor]:
    """How many weights of each tensor are there on average, or how many multiply-accumulates they cost.

    Args:
        net: What :func:`gate_units` returned.
        open_shares: By group the probability that each unit is open, (units,); groups that are not named are
            whole.
        macs: Whether each weight counts as often as one example uses it.

    Returns:
        A differentiable scalar by tensor, in the network's order.

    >>> from laconic.bayes.gates import HardConcrete
    >>> from laconic.networks.noise import NoiseSource
    >>> layers = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> context = Context(data_size=9, noise=NoiseSource(0))
    >>> net = gate_units(layers, torch.zeros(1, 2), context, lambda g: HardConcrete.open(g.size))
    >>> counts = expected_counts(net, {"0.weight:0": torch.tensor([1.0, 0.5, 0.0])})
    >>> {name: count.item() for name, count in counts.items()}
    {'0.weight': 3.0, '2.weight': 1.5}
    """
    found = gated_groups(net)[1]
    like = next(net.parameters())
    counts: dict[str, Tensor] = {}
    for name in weights_used(net):
        count = like.new_tensor(found.uses[name] if macs else 1.0)
        for axis, full in enumerate(found.shapes[name]):
            closed = [
                each * (1.0 - open_shares[g]).sum()
                for g, each in found.axes.get((name, axis), ())
                if g in open_shares
            ]
            count = count * (full - sum(closed)) if closed else count * full
        counts[name] = count
    return counts


def weights_used(net: nn.Module) -> tuple[str, ...]:
    """The weights whose uses were counted, in the network's order; biases and scales are none of them."""
    uses = gated_groups(net)[1].uses
    return tuple(name for name in weights_of(net) if name in uses)


def macs_by_unit(net: nn.Module) -> dict[str, float]:
    """Multiply-accumulates that one unit of each gated group costs, all others being there."""
    coupling, macs = gated_groups(net)
    whole = macs.total()
    return {name: whole - macs.total({name: coupling.group(name).size - 1}) for name in gates_of(net)}


def weights_in(net: nn.Module, plan: KeepPlan) -> dict[str, int]:
    """Weights of each tensor under a plan."""
    shares = {}
    for name, kept in plan.kept.items():
        shares[name] = torch.zeros(plan.sizes[name])
        shares[name][list(kept)] = 1.0
    with torch.no_grad():
        return {name: round(float(c)) for name, c in expected_counts(net, shares).items()}


def without_units(
    net: nn.Module, plan: KeepPlan, grid: GridChoice | None, context: Context, judge: Judge | None
) -> Compressed:
    """The smaller network of a plan: expectations of the gates in its weights, and these on a grid.

    Args:
        net: What :func:`gate_units` returned; it is left as it was.
        plan: The units that stay.
        grid: How the remaining weights are quantised (None: they stay float32).
        context: What the user says of single parameters, the batches and the example.
        judge: Scores candidates.

    Returns:
        The compressed network. Its facts hold ``macs_before`` and ``macs_after`` (multiply-accumulates of one
        example), ``units``, ``kept_units`` and ``left_whole``.
    """
    coupling, macs = gated_groups(net)
    small = shrink(fold_gates(net, plan), coupling, plan)
    facts = {
        "macs_before": macs.total(),
        "macs_after": macs.total({name: len(units) for name, units in plan.kept.items()}),
        **unit_facts(net, coupling, plan.kept),
        "left_whole": list(coupling.notes),
    }
    if grid is None:
        norms = better_norms(small, context, judge)
        return replace(finish(small, {}, {**norms, **facts}, judge), architecture_changed=True)
    done = on_a_grid(small, grid, context, judge, sampled=True)
    return replace(done, facts={**done.facts, **facts}, architecture_changed=True)
