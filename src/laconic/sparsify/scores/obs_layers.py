"""Optimal Brain Surgeon on whole networks: Hessians gathered by layer, scores, and compensated weights."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from laconic.errors import InputError
from laconic.networks import duplicate
from laconic.records import KeepPlan
from laconic.sparsify.scores.activation import block_units
from laconic.sparsify.scores.common import (
    Forward,
    GroupScores,
    WeightScores,
    at_rest,
    batches,
    finite,
    first_input,
    parameters_of,
)
from laconic.sparsify.scores.obs import DAMPING, compensate, saliencies, sweep, unit_costs
from laconic.sparsify.scores.reads import Read, watch_reads
from laconic.structure.coupling.groups import Coupling, Member
from laconic.structure.plan import check_plan
from laconic.structure.shrinking import kept_positions


class Pruner(Protocol):
    """W, H and a share of zeros in; new weights and a keep-mask out."""

    def __call__(
        self, weight: Tensor, hessian: Tensor, sparsity: float, /, *, damping: float
    ) -> tuple[Tensor, Tensor]:
        """Prune one matrix."""


@dataclass(frozen=True, eq=False)
class InputHessian:
    """Sums of x x^T over what a weight multiplies: (blocks, K, K), float64, and how many x, (blocks,)."""

    axis: int
    products: Tensor
    count: Tensor

    def __add__(self, other: InputHessian) -> InputHessian:
        return InputHessian(self.axis, self.products + other.products, self.count + other.count)

    @property
    def mean(self) -> Tensor:
        """The mean of x x^T by block."""
        return self.products / self.count[:, None, None].clamp(min=1)


def gather_hessians(
    module: nn.Module,
    loader: Iterable[Any],
    *,
    names: Collection[str] | None = None,
    forward: Forward = first_input,
    start: Mapping[str, InputHessian] | None = None,
) -> dict[str, InputHessian]:
    """X^T X of what every weight multiplies (convolutions by im2col), over all batches, in evaluation mode.

    ``names``: of these weights alone, since each takes K^2 numbers; ``start``: go on from these.

    Raises DataError for an empty loader.
    """
    found = dict(start or {})

    def add(read: Read) -> None:
        if names is None or read.name in names:
            blocks = read.patches()
            counts = torch.tensor([float(len(x)) for x in blocks], dtype=torch.float64)
            # Products in the network's own precision, sums over batches in float64.
            products = torch.stack([(x.T @ x).double() for x in blocks]).cpu()
            new = InputHessian(read.axis, products, counts)
            found[read.name] = found[read.name] + new if read.name in found else new

    with at_rest(module):
        for batch in batches(loader, "layer Hessians"):
            watch_reads(module, lambda batch=batch: forward(module, batch), add)  # type: ignore[misc]
    return found


# --- a weight as matrices --------------------------------------------------------------------------


def as_matrices(weight: Tensor, axis: int, blocks: int) -> Tensor:
    """A weight as (blocks, rows, K), so that each block's output is its patches times its rows."""
    if axis == 1:
        return weight.reshape(blocks, len(weight) // blocks, -1)
    split = weight.reshape(blocks, len(weight) // blocks, *weight.shape[1:]).transpose(1, 2)
    return split.flip(tuple(range(3, split.ndim))).flatten(2)


def from_matrices(matrices: Tensor, like: Tensor, axis: int) -> Tensor:
    """The inverse of :func:`as_matrices`."""
    if axis == 1:
        return matrices.reshape(like.shape)
    blocks = len(matrices)
    split = matrices.reshape(blocks, like.shape[1], len(like) // blocks, *like.shape[2:])
    return split.flip(tuple(range(3, split.ndim))).transpose(1, 2).reshape(like.shape)


def _matrices(weights: Mapping[str, Tensor], name: str, hessian: InputHessian) -> Tensor:
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
    module: nn.Module, hessians: Mapping[str, InputHessian], *, damping: float = DAMPING
) -> WeightScores:
    """What each weight's going costs its layer, the others of its row adjusted: half the mean squared error.

    Source: Hassibi & Stork 1992, with the layer's own Hessian.
    """
    weights = parameters_of(module)
    scores = {}
    for name, hessian in hessians.items():
        w = _matrices(weights, name, hessian)
        each = [saliencies(a, h, damping=damping) for a, h in zip(w, hessian.mean, strict=True)]
        scores[name] = from_matrices(torch.stack(each), weights[name], hessian.axis)
    return finite(scores, "Optimal Brain Surgeon")


def obs_groups(
    module: nn.Module, coupling: Coupling, hessians: Mapping[str, InputHessian], *, damping: float = DAMPING
) -> GroupScores:
    """What a unit's going costs the layers that read it, their other inputs adjusted, summed over them.

    Raises InputError for a group whose readers have no Hessian.
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
                "Cure: gather_hessians without names"
            )
        scores[group.name] = torch.stack(costs).sum(0).numpy()
    return finite(scores, "Optimal Brain Surgeon")


# --- weights that make up ----------------------------------------------------------------------------


def compensated(
    module: nn.Module,
    coupling: Coupling,
    plan: KeepPlan,
    hessians: Mapping[str, InputHessian],
    *,
    damping: float = DAMPING,
) -> nn.Module:
    """A copy whose weights make up, layer by layer, for the inputs that a plan will take from them.

    Columns that go are zero, those that stay are the least-squares best. :func:`laconic.structure.shrink`
    then carries the plan out. Weights without a Hessian stay as they are.

    Raises InputError for a plan for another network.
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
    hessians: Mapping[str, InputHessian],
    sparsity: float,
    *,
    damping: float = DAMPING,
    method: Pruner = sweep,
) -> tuple[nn.Module, dict[str, Tensor]]:
    """Prune every weight with a Hessian: a copy with zeros and compensated weights, and keep-masks.

    ``method``: :func:`sweep` (SparseGPT) or :func:`surgeon` (Optimal Brain Compression: finer and slower).
    The Hessians are those of the network as it was, so layers can be pruned in any order.
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
