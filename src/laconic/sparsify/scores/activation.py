"""Activations: units that are mostly zero, that are small, or whose weights read little.

The statistics are sums over what each weight reads, so they can be gathered in parts and added up
(:func:`merged`), stopped and gone on with (``start``), and saved (plain tensors).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from laconic.errors import InputError
from laconic.sparsify.scores.aggregate import Aggregation, group_scores, total
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
from laconic.sparsify.scores.reads import Read, watch_reads
from laconic.structure.coupling.groups import Coupling, Group, Member


@dataclass(frozen=True, eq=False)
class InputStats:
    """Sums over the inputs of one weight, float64, one row a block of its rows and one column a channel.

    ``axis`` is the weight's axis that reads; ``count`` (blocks, 1) is how many numbers of each channel were
    read. A convolution's channel is summed over its pixels, padding left out.
    """

    axis: int
    count: Tensor
    zeros: Tensor
    absolute: Tensor
    squares: Tensor

    def __add__(self, other: InputStats) -> InputStats:
        pairs = ((getattr(self, n), getattr(other, n)) for n in ("count", "zeros", "absolute", "squares"))
        return InputStats(self.axis, *(a + b for a, b in pairs))


InputStatistics = dict[str, InputStats]


def gather_inputs(
    module: nn.Module,
    loader: Iterable[Any],
    *,
    forward: Forward = first_input,
    start: Mapping[str, InputStats] | None = None,
) -> InputStatistics:
    """Statistics of what every weight reads, over all batches of a loader, in evaluation mode.

    ``start``: go on from these. Raises DataError for an empty loader.

    >>> net = nn.Linear(2, 1)
    >>> stats = gather_inputs(net, [torch.tensor([[3.0, 0.0]]), torch.tensor([[-4.0, 1.0]])])
    >>> stats["weight"].squares.sqrt().tolist(), stats["weight"].zeros.tolist()
    ([[5.0, 1.0]], [[0.0, 1.0]])
    """
    found = dict(start or {})

    def add(read: Read) -> None:
        new = _sums(read)
        found[read.name] = found[read.name] + new if read.name in found else new

    with at_rest(module):
        for batch in batches(loader, "activations"):
            watch_reads(module, lambda batch=batch: forward(module, batch), add)  # type: ignore[misc]
    return found


def merged(a: Mapping[str, InputStats], b: Mapping[str, InputStats]) -> InputStatistics:
    """Statistics of the batches of both."""
    return {n: a[n] + b[n] if n in a and n in b else (a[n] if n in a else b[n]) for n in {**a, **b}}


def _sums(read: Read) -> InputStats:
    blocks = [x.double() for x in read.channels]

    def stacked(each: list[Tensor]) -> Tensor:
        return torch.stack(each).cpu()

    return InputStats(
        read.axis,
        torch.tensor([[float(len(x))] for x in blocks], dtype=torch.float64),
        stacked([(x == 0).double().sum(0) for x in blocks]),
        stacked([x.abs().sum(0) for x in blocks]),
        stacked([x.square().sum(0) for x in blocks]),
    )


# --- units -------------------------------------------------------------------------------------------


def apoz_groups(coupling: Coupling, stats: Mapping[str, InputStats]) -> GroupScores:
    """1 - APoZ: the share of a unit's activations that are not zero, over all that read it.

    A unit of several readers counts every number that each of them reads. Source: Hu et al., Network
    Trimming, 2016 (average percentage of zeros).

    Raises InputError for a group that no weight was seen to read.
    """
    sums = {g.name: _unit_sums(g, stats) for g in coupling.groups}
    return finite({name: np.asarray(1.0 - zeros / n) for name, (n, zeros, _) in sums.items()}, "APoZ")


def mean_activation_groups(coupling: Coupling, stats: Mapping[str, InputStats]) -> GroupScores:
    """Mean absolute activation of a unit, over all that read it.

    Source: Molchanov et al., Pruning CNNs for Resource Efficient Inference, ICLR 2017.
    """
    sums = {g.name: _unit_sums(g, stats) for g in coupling.groups}
    return finite({name: np.asarray(a / n) for name, (n, _, a) in sums.items()}, "mean activation")


def block_units(member: Member, blocks: int) -> Tensor:
    """A reading member's units by block and channel: along axis 1 each block reads the same units."""
    units = torch.as_tensor(member.units)
    return units.reshape(blocks, -1) if member.axis == 0 else units.expand(blocks, -1)


def is_read(group: Group, stats: Mapping[str, InputStats]) -> bool:
    """Whether some weight was seen to read each unit of a group."""
    return bool((_sums_by_unit(group, stats)[0] > 0).all())


def _unit_sums(group: Group, stats: Mapping[str, InputStats]) -> tuple[Any, Any, Any]:
    """Numbers read of each unit, zeros among them, sum of their absolute values."""
    sums = _sums_by_unit(group, stats)
    if not bool((sums[0] > 0).all()):
        raise InputError(
            f"group {group.name!r}: no weight was seen to read it. Cure: gather statistics on this network, "
            "on batches that reach all of it"
        )
    return tuple(row.numpy() for row in sums)


def _sums_by_unit(group: Group, stats: Mapping[str, InputStats]) -> Tensor:
    out = torch.zeros(3, group.size + 1, dtype=torch.float64)  # the last unit is that of other groups
    for member in group.members:
        seen = stats.get(member.tensor)
        if seen is None or seen.axis != member.axis:
            continue
        units = block_units(member, len(seen.zeros))
        units = torch.where(units < 0, group.size, units).ravel()
        for row, sums in enumerate((seen.count.expand_as(seen.zeros), seen.zeros, seen.absolute)):
            out[row].index_add_(0, units, sums.ravel())
    return out[:, : group.size]


# --- Wanda -------------------------------------------------------------------------------------------


def wanda_weights(module: nn.Module, stats: Mapping[str, InputStats]) -> WeightScores:
    r"""|w| times the norm of what it reads, for every weight with statistics.

    .. math:: s_{ij} = |w_{ij}| \, \lVert x_j \rVert_2

    over all examples, places and pixels. Weights compare within an output row
    (:func:`laconic.sparsify.selection.weights.keep_best_of_rows`). Source: Sun et al., A Simple and Effective
    Pruning Approach for Large Language Models, ICLR 2024.

    Raises InputError for statistics of another network.

    >>> net = nn.Linear(2, 1, bias=False)
    >>> _ = net.weight.data.copy_(torch.tensor([[1.0, -2.0]]))
    >>> wanda_weights(net, gather_inputs(net, [torch.tensor([[3.0, 1.0], [4.0, 0.0]])]))["weight"].tolist()
    [[5.0, 2.0]]
    """
    weights = parameters_of(module)
    scores = {}
    for name, seen in stats.items():
        if name not in weights or weights[name].numel() == 0:
            raise InputError(f"statistics of {name!r} fit no weight of this network")
        scores[name] = weights[name].abs() * _norms(name, weights[name], seen)
    return finite(scores, "Wanda")


def _norms(name: str, weight: Tensor, seen: InputStats) -> Tensor:
    """The norm of what each weight reads, of a shape that broadcasts against the weight."""
    norms = seen.squares.sqrt().to(weight)
    norms = norms.reshape(-1) if seen.axis == 0 else norms.repeat_interleave(len(weight) // len(norms), 0)
    if norms.shape != weight.shape[: norms.ndim]:
        raise InputError(
            f"statistics of {name!r} are of {norms.shape[-1]} channels, the weight has shape "
            f"{tuple(weight.shape)}. Cure: gather them on this network"
        )
    return norms.reshape(*norms.shape, *(1 for _ in range(weight.ndim - norms.ndim)))


def wanda_groups(
    module: nn.Module, coupling: Coupling, stats: Mapping[str, InputStats], *, how: Aggregation = total
) -> GroupScores:
    """Wanda's scores of the weights that were seen to read a unit, added up."""

    def seen(_: nn.Module, group: Group) -> tuple[Member, ...]:
        return tuple(m for m in group.members if m.tensor in stats and stats[m.tensor].axis == m.axis)

    return group_scores(module, coupling, wanda_weights(module, stats), how=how, members=seen)
