"""Optimal Brain Surgeon on whole networks: Hessians gathered by layer, scores, and adjusted weights.

Sources: Hassibi & Stork, NIPS 1992, with each layer's own Hessian; Frantar & Alistarh, NeurIPS 2022 and ICML
2023.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from laconic.errors import InputError
from laconic.networks import duplicate
from laconic.networks.evaluation import parameters_of
from laconic.networks.second_moments import SecondMoments, as_matrices, from_matrices
from laconic.records import KeepPlan
from laconic.sparsify.scores.activation import block_units
from laconic.sparsify.scores.common import GroupScores, WeightScores, finite
from laconic.sparsify.scores.obs import DAMPING, compensate, saliencies, sweep, unit_costs
from laconic.structure.coupling.groups import Coupling, Member
from laconic.structure.plan import check_plan
from laconic.structure.shrinking import kept_positions


class Pruner(Protocol):
    """A function of W, H and a share of zeros that gives new weights and a keep-mask."""

    def __call__(
        self, weight: Tensor, hessian: Tensor, sparsity: float, /, *, damping: float
    ) -> tuple[Tensor, Tensor]:
        """Prune one matrix."""


def _matrices(weights: Mapping[str, Tensor], name: str, hessian: SecondMoments) -> Tensor:
    blocks, k = hessian.products.shape[:2]
    weight = weights.get(name)
    if weight is None or weight.numel() % (blocks * k) or weight.shape[hessian.axis] == 0:
        shape = "no weight" if weight is None else f"a weight of shape {tuple(weight.shape)}"
        raise InputError(
            f"the Hessian of {name!r} is of {blocks} x {k} inputs, the network has {shape}. Cure: gather it "
            "on this network"
        )
    return as_matrices(weight.cpu(), hessian.axis, blocks)


def _column_units(member: Member, blocks: int, k: int) -> Tensor:
    units = block_units(member, blocks)
    return units.repeat_interleave(k // units.shape[1], 1)


# --- scores -----------------------------------------------------------------------------------------


def obs_weights(
    module: nn.Module, hessians: Mapping[str, SecondMoments], *, damping: float = DAMPING
) -> WeightScores:
    """Half the mean squared error of removing one weight of a layer, the others of its row adjusted.

    Source: Hassibi & Stork 1992, eq. 5, with the layer's own Hessian.

    Args:
        module: The network.
        hessians: What :func:`laconic.networks.gather_second_moments` gives for this network.
        damping: Share of the mean diagonal that is added to the diagonal.

    Returns:
        By weight with a Hessian, a float64 tensor of its shape.

    Raises:
        InputError: A Hessian is of another network, or not positive definite.

    >>> net = nn.Linear(2, 1, bias=False)
    >>> _ = net.weight.data.copy_(torch.tensor([[2.0, 1.0]]))
    >>> from laconic.networks import gather_second_moments
    >>> hessians = gather_second_moments(net, [torch.eye(2)])
    >>> obs_weights(net, hessians, damping=0.0)["weight"].round(decimals=6).tolist()
    [[1.0, 0.25]]
    """
    weights = parameters_of(module)
    scores = {}
    for name, hessian in hessians.items():
        w = _matrices(weights, name, hessian)
        each = [saliencies(a, h, damping=damping) for a, h in zip(w, hessian.mean, strict=True)]
        scores[name] = from_matrices(torch.stack(each), weights[name], hessian.axis)
    return finite(scores, "Optimal Brain Surgeon")


def obs_groups(
    module: nn.Module, coupling: Coupling, hessians: Mapping[str, SecondMoments], *, damping: float = DAMPING
) -> GroupScores:
    r"""Half the mean squared error, in the layers that read it, of removing a unit; other inputs adjusted.

    .. math:: s_u = \sum_{l} \tfrac12 \operatorname{tr}\big(W_u\,([H_l^{-1}]_{uu})^{-1}\,W_u^\top\big)

    Source: Frantar & Alistarh 2022 (groups of weights), with all columns of a unit as one group.

    Args:
        module: The network.
        coupling: Its groups.
        hessians: What :func:`laconic.networks.gather_second_moments` gives for this network.
        damping: Share of the mean diagonal that is added to the diagonal.

    Returns:
        By group, one number at least 0 per unit.

    Raises:
        InputError: No weight that reads some group has a Hessian, or a Hessian is of another network.

    >>> from laconic.structure import find_groups
    >>> net = nn.Sequential(nn.Linear(2, 2), nn.Identity(), nn.Linear(2, 1))
    >>> values = {"0.weight": torch.eye(2), "0.bias": torch.zeros(2), "2.weight": torch.tensor([[2.0, 4.0]])}
    >>> _ = [net.get_parameter(name).data.copy_(value) for name, value in values.items()]
    >>> from laconic.networks import gather_second_moments
    >>> hessians = gather_second_moments(net, [torch.eye(2)])
    >>> scores = obs_groups(net, find_groups(net, torch.zeros(2, 2)), hessians, damping=0.0)
    >>> scores["0.weight:0"].round(6).tolist()
    [1.0, 4.0]
    """
    weights = parameters_of(module)
    scores: GroupScores = {}
    for group in coupling.groups:
        costs = []
        for member in group.members:
            hessian = hessians.get(member.tensor)
            if hessian is None or hessian.axis != member.axis:
                continue
            w = _matrices(weights, member.tensor, hessian)
            units = _column_units(member, len(w), w.shape[2])
            for a, h, u in zip(w, hessian.mean, units, strict=True):
                costs.append(unit_costs(a, h, u, group.size, damping=damping))
        if not costs:
            raise InputError(
                f"group {group.name!r}: no Hessian of a weight that reads it. "
                "Cure: gather_second_moments without names"
            )
        scores[group.name] = torch.stack(costs).sum(0).numpy()
    return finite(scores, "Optimal Brain Surgeon")


# --- weights that make up ----------------------------------------------------------------------------


def compensated(
    module: nn.Module,
    coupling: Coupling,
    plan: KeepPlan,
    hessians: Mapping[str, SecondMoments],
    *,
    damping: float = DAMPING,
) -> nn.Module:
    """A copy in which each layer is adjusted to the inputs that a plan takes from it.

    Columns that are removed are zero; those that stay are the least-squares best (normal equations; Frantar
    & Alistarh 2022 for the same step weight by weight). :func:`laconic.structure.shrink` then removes the
    units. Weights without a Hessian stay as they are.

    Args:
        module: The network; it is left as it was.
        coupling: Its groups.
        plan: Which units stay.
        hessians: What :func:`laconic.networks.gather_second_moments` gives for this network.
        damping: Share of the mean diagonal that is added to the diagonal.

    Returns:
        The copy, with the shapes of the original.

    Raises:
        InputError: The plan or a Hessian is of another network.

    >>> from laconic.structure import find_groups
    >>> net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Linear(2, 1, bias=False))
    >>> _ = net[0].weight.data.fill_(1.0), net[1].weight.data.fill_(1.0)
    >>> from laconic.networks import gather_second_moments
    >>> hessians = gather_second_moments(net, [torch.ones(4, 1)])
    >>> plan = KeepPlan({"0.weight:0": (0,)}, {"0.weight:0": 2})
    >>> better = compensated(net, find_groups(net, torch.zeros(2, 1)), plan, hessians, damping=0.001)
    >>> better[1].weight.detach().round(decimals=2).tolist()  # the inputs were equal: one counts twice
    [[2.0, 0.0]]
    """
    check_plan(plan, coupling)
    copied = duplicate(module)
    weights = dict(copied.named_parameters())
    for (name, axis), stay in kept_positions(coupling, plan).items():
        hessian = hessians.get(name)
        if hessian is None or hessian.axis != axis:
            continue
        w = _matrices({n: p.detach() for n, p in weights.items()}, name, hessian)
        keep = _column_units(Member(name, axis, np.asarray(stay, np.int64)), len(w), w.shape[2]) == 1
        each = [
            compensate(a, h, k.expand_as(a), damping=damping)
            for a, h, k in zip(w, hessian.mean, keep, strict=True)
        ]
        with torch.no_grad():
            weights[name].copy_(from_matrices(torch.stack(each), weights[name], axis))
    return copied


def obs_pruned(
    module: nn.Module,
    hessians: Mapping[str, SecondMoments],
    sparsity: float,
    *,
    damping: float = DAMPING,
    method: Pruner = sweep,
) -> tuple[nn.Module, dict[str, Tensor]]:
    """Prune every weight with a Hessian: a copy with zeros and adjusted weights, and keep-masks.

    The Hessians are those of the network as it was, so layers can be pruned in any order. Sources: Frantar &
    Alistarh 2023 (:func:`sweep`), 2022 (:func:`surgeon`).

    Args:
        module: The network; it is left as it was.
        hessians: What :func:`laconic.networks.gather_second_moments` gives for this network.
        sparsity: Share of weights to remove from each layer, in [0, 1).
        damping: Share of the mean diagonal that is added to the diagonal.
        method: :func:`sweep` (SparseGPT) or :func:`surgeon` (Optimal Brain Compression: less error, slower).

    Returns:
        The copy, and by weight its keep-mask.

    Raises:
        InputError: A sparsity outside [0, 1), or a Hessian of another network.

    >>> net = nn.Linear(2, 1, bias=False)
    >>> _ = net.weight.data.copy_(torch.tensor([[2.0, 1.0]]))
    >>> from laconic.networks import gather_second_moments
    >>> pruned, masks = obs_pruned(net, gather_second_moments(net, [torch.eye(2)]), 0.5)
    >>> pruned.weight.tolist(), masks["weight"].tolist()
    ([[2.0, 0.0]], [[True, False]])
    """
    copied = duplicate(module)
    weights = dict(copied.named_parameters())
    masks = {}
    for name, hessian in hessians.items():
        w = _matrices({n: p.detach() for n, p in weights.items()}, name, hessian)
        done = [method(a, h, sparsity, damping=damping) for a, h in zip(w, hessian.mean, strict=True)]
        new, keep = (torch.stack(list(side)) for side in zip(*done, strict=True))
        masks[name] = from_matrices(keep, weights[name], hessian.axis)
        with torch.no_grad():
            weights[name].copy_(from_matrices(new, weights[name], hessian.axis))
    return copied, masks
