"""Scores from activations: units that are mostly zero, units that are small, weights whose inputs are small.

The statistics are sums over the inputs of each weight. They can be gathered in parts and added
(:func:`merged`), continued (``start``), and saved (they are plain tensors).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from laconic.errors import InputError
from laconic.networks.evaluation import Forward, at_rest, batches, first_input, parameters_of
from laconic.networks.reads import Read, watch_reads
from laconic.sparsify.scores.aggregate import Aggregation, group_scores, total
from laconic.sparsify.scores.common import GroupScores, WeightScores, finite
from laconic.structure.coupling.groups import Coupling, Group, Member


@dataclass(frozen=True, eq=False)
class InputStats:
    """Sums over the inputs of one weight, in float64: one row per block of its rows, one column per channel.

    A weight has several blocks where parts of its rows read different inputs (a grouped convolution). The
    inputs of a convolution are summed over examples and pixels; padding is left out. Statistics of one
    weight can be added. Source: the sums that Hu et al. 2016 and Sun et al. 2024 need.

    Attributes:
        axis: The axis of the weight that multiplies the input's channels.
        count: Numbers read of each channel, (blocks, 1).
        zeros: How many of them are zero, (blocks, channels).
        absolute: Sum of their absolute values, (blocks, channels).
        squares: Sum of their squares, (blocks, channels).

    >>> one = torch.ones(1, 2, dtype=torch.float64)
    >>> stats = InputStats(1, one[:, :1], 0 * one, 3 * one, 9 * one)
    >>> (stats + stats).squares.tolist()
    [[18.0, 18.0]]
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
    """Statistics of the inputs of every weight, over all batches of a loader, in evaluation mode.

    They are what average percentage of zeros (Hu et al. 2016), mean activation (Molchanov et al. 2017) and
    Wanda (Sun et al. 2024) are computed from.

    Args:
        module: The network; its modes and gradients are afterwards as before.
        loader: Batches as ``forward`` takes them.
        forward: Runs the network on one batch; by default on the batch, or on its first item.
        start: Statistics to which these are added.

    Returns:
        Statistics by the name of the weight; a weight that was not used has none.

    Raises:
        DataError: The loader is empty.
        ModelError: The network computes a weight from other parameters.

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
    """Statistics of the batches of both, as if they had been gathered in one pass."""
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
    r"""Share of a unit's activations that are not zero: 1 - APoZ, over all weights that read the unit.

    .. math:: s_u = 1 - \frac{1}{N_u} \sum_{n=1}^{N_u} [x_{u,n} = 0]

    A unit with several readers counts every number that each of them reads. Source: Hu et al., Network
    Trimming, 2016, eq. 1 (average percentage of zeros).

    Args:
        coupling: The network's groups.
        stats: What :func:`gather_inputs` gives for this network.

    Returns:
        By group, one number in [0, 1] per unit.

    Raises:
        InputError: No weight was seen to read some group.

    >>> from laconic.structure import find_groups
    >>> net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> for name, value in (("0.weight", [[1.0], [1.0]]), ("0.bias", [0.0, 5.0])):
    ...     _ = net.get_parameter(name).data.copy_(torch.tensor(value))
    >>> coupling = find_groups(net, torch.zeros(2, 1))
    >>> stats = gather_inputs(net, [torch.tensor([[-2.0], [1.0]])])
    >>> apoz_groups(coupling, stats)["0.weight:0"].tolist()
    [0.5, 1.0]
    """
    sums = {g.name: _unit_sums(g, stats) for g in coupling.groups}
    return finite({name: np.asarray(1.0 - zeros / n) for name, (n, zeros, _) in sums.items()}, "APoZ")


def mean_activation_groups(coupling: Coupling, stats: Mapping[str, InputStats]) -> GroupScores:
    r"""Mean absolute activation of a unit, over all weights that read the unit.

    .. math:: s_u = \frac{1}{N_u} \sum_{n=1}^{N_u} |x_{u,n}|

    Source: Molchanov et al., Pruning CNNs for Resource Efficient Inference, ICLR 2017 (criterion
    "activation").

    Args:
        coupling: The network's groups.
        stats: What :func:`gather_inputs` gives for this network.

    Returns:
        By group, one number at least 0 per unit, in the activation's unit.

    Raises:
        InputError: No weight was seen to read some group.

    >>> from laconic.structure import find_groups
    >>> net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1))
    >>> _ = net[0].weight.data.copy_(torch.tensor([[1.0], [3.0]]))
    >>> coupling = find_groups(net, torch.zeros(2, 1))
    >>> stats = gather_inputs(net, [torch.tensor([[2.0], [0.0]])])
    >>> mean_activation_groups(coupling, stats)["0.weight:0"].tolist()
    [1.0, 3.0]
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
    r"""|w| times the norm of its input, for every weight with statistics.

    .. math:: s_{ij} = |w_{ij}| \, \lVert x_j \rVert_2

    The norm is over all examples, positions and pixels. Weights of one output row are compared with each
    other (:func:`laconic.sparsify.selection.weights.keep_best_of_rows`). Source: Sun et al., A Simple and
    Effective Pruning Approach for Large Language Models, ICLR 2024, eq. 1.

    Args:
        module: The network.
        stats: What :func:`gather_inputs` gives for this network.

    Returns:
        By weight, a tensor of the weight's shape.

    Raises:
        InputError: The statistics are of another network.

    >>> net = nn.Linear(2, 1, bias=False)
    >>> _ = net.weight.data.copy_(torch.tensor([[1.0, -2.0]]))
    >>> wanda_weights(net, gather_inputs(net, [torch.tensor([[3.0, 1.0], [4.0, 0.0]])]))["weight"].tolist()
    [[5.0, 2.0]]
    """
    weights = parameters_of(module)
    scores = {}
    for name, seen in stats.items():
        if name not in weights or weights[name].numel() == 0:
            raise InputError(
                f"statistics of {name!r} fit no weight of this network. Cure: gather them on this network"
            )
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
    """Wanda's scores (Sun et al. 2024, eq. 1) of the weights that read a unit, as one number per unit.

    Args:
        module: The network.
        coupling: Its groups.
        stats: What :func:`gather_inputs` gives for this network.
        how: Reduces the scores of a unit's weights: :func:`total`, :func:`mean`, :func:`largest` or
            :func:`norm`.

    Returns:
        By group, one number at least 0 per unit.

    Raises:
        InputError: The statistics are of another network, or no weight was seen to read some group.

    >>> from laconic.structure import find_groups
    >>> net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1))
    >>> _ = net[0].weight.data.copy_(torch.tensor([[1.0], [3.0]]))
    >>> _ = net[2].weight.data.copy_(torch.tensor([[2.0, 1.0]]))
    >>> coupling = find_groups(net, torch.zeros(2, 1))
    >>> wanda_groups(net, coupling, gather_inputs(net, [torch.tensor([[1.0]])]))["0.weight:0"].tolist()
    [2.0, 3.0]
    """

    def seen(_: nn.Module, group: Group) -> tuple[Member, ...]:
        return tuple(m for m in group.members if m.tensor in stats and stats[m.tensor].axis == m.axis)

    return group_scores(module, coupling, wanda_weights(module, stats), how=how, members=seen)
