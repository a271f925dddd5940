"""First-order Taylor: the change of the loss when a weight or unit becomes 0, from its gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from laconic.errors import InputError
from laconic.networks.evaluation import at_rest, batches, gradients_of
from laconic.sparsify.scores.aggregate import Members, group_scores, readers, total
from laconic.sparsify.scores.common import GroupScores, Loss, WeightScores, finite
from laconic.structure.coupling.groups import Coupling


def taylor_weights(module: nn.Module, loader: Iterable[Any], loss: Loss) -> WeightScores:
    """|g w| of every parameter, mean over batches; g is the gradient of ``loss(module, batch)``.

    This is the change of the loss, to first order, when w becomes 0. Source: Molchanov et al., Importance
    Estimation for Neural Network Pruning, CVPR 2019, section 3.1.

    Args:
        module: The network; run in evaluation mode.
        loader: Batches as ``loss`` takes them.
        loss: ``loss(module, batch)`` gives one number, the mean loss of the batch.

    Returns:
        By parameter, a tensor of its shape, in the loss's unit.

    Raises:
        DataError: The loader is empty.
        InputError: The loss is not one number.
        NonFiniteError: A score is NaN or infinite; names the parameter.

    >>> layer = nn.Linear(1, 1, bias=False)
    >>> _ = layer.weight.data.fill_(2.0)
    >>> taylor_weights(layer, [torch.ones(1, 1)], lambda net, x: net(x).square().mean())["weight"].item()
    8.0
    """
    sums: WeightScores = {}

    def add(products: dict[str, Tensor]) -> None:
        for name, product in products.items():
            sums[name] = sums.get(name, 0.0) + product.abs()

    count = _each_batch(module, loader, loss, add)
    return finite({name: s / count for name, s in sums.items()}, "Taylor")


def taylor_groups(
    module: nn.Module,
    coupling: Coupling,
    loader: Iterable[Any],
    loss: Loss,
    *,
    members: Members = readers,
) -> GroupScores:
    r"""Squared change of the loss, to first order, when a unit becomes 0: mean over batches.

    .. math:: s_u = \frac1B \sum_b \Big(\sum_{i \in u} g_i^{(b)} w_i\Big)^2

    The inner sum is over the weights in ``members``, by default those that read the unit. (Over everything
    that becomes zero with the unit, it would count the unit once for every factor on its path.) One batch of
    all examples gives the square of the first-order change itself. Source: Molchanov et al., Importance
    Estimation for Neural Network Pruning, CVPR 2019, section 3.1 (joint importance of a set).

    Args:
        module: The network; run in evaluation mode.
        coupling: Its groups.
        loader: Batches as ``loss`` takes them.
        loss: ``loss(module, batch)`` gives one number, the mean loss of the batch.
        members: Which tensors count: :func:`readers`, :func:`producers` or :func:`everything`.

    Returns:
        By group, one number at least 0 per unit, in the loss's squared unit.

    Raises:
        DataError: The loader is empty.
        InputError: The loss is not one number.
        NonFiniteError: A score is NaN or infinite; names the group.

    >>> from laconic.structure import find_groups
    >>> net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1, bias=False))
    >>> values = {"0.weight": [[1.0], [2.0]], "0.bias": [0.0, 0.0], "2.weight": [[3.0, -1.0]]}
    >>> _ = [net.get_parameter(name).data.copy_(torch.tensor(value)) for name, value in values.items()]
    >>> coupling = find_groups(net, torch.zeros(2, 1))
    >>> taylor_groups(net, coupling, [torch.ones(1, 1)], lambda m, x: m(x).sum())["0.weight:0"].tolist()
    [9.0, 4.0]
    """
    sums: GroupScores = {}

    def add(products: dict[str, Tensor]) -> None:
        changes = group_scores(module, coupling, products, how=total, members=members)
        for name, change in changes.items():
            sums[name] = sums.get(name, 0.0) + change**2

    count = _each_batch(module, loader, loss, add)
    return finite({name: s / count for name, s in sums.items()}, "Taylor")


def _each_batch(
    module: nn.Module, loader: Iterable[Any], loss: Loss, use: Callable[[dict[str, Tensor]], None]
) -> int:
    """Give g w of every batch to ``use``; returns the number of batches."""
    count = 0
    with at_rest(module, gradients=True) as parameters:
        for batch in batches(loader, "Taylor"):
            value = loss(module, batch)
            if value.numel() != 1:
                raise InputError(
                    f"Taylor: the loss has shape {tuple(value.shape)}, it must be one number. "
                    "Cure: take its mean"
                )
            gradients = gradients_of(value.sum(), parameters)
            with torch.no_grad():
                use({name: g * parameters[name].detach() for name, g in gradients.items()})
            count += 1
    return count
