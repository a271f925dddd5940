"""First-order Taylor: what the loss would lose, by its gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from laconic.errors import InputError
from laconic.sparsify.scores.aggregate import Members, group_scores, readers, total
from laconic.sparsify.scores.common import (
    GroupScores,
    Loss,
    WeightScores,
    at_rest,
    batches,
    finite,
    gradients_of,
)
from laconic.structure.coupling.groups import Coupling


def taylor_weights(module: nn.Module, loader: Iterable[Any], loss: Loss) -> WeightScores:
    """|g w| of every parameter, mean over batches; g is the gradient of ``loss(module, batch)``.

    To first order the change of the loss when w becomes 0. Source: Molchanov et al. 2019, section 3.1.

    Raises DataError for an empty loader, NonFiniteError naming a parameter.

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
    r"""Squared change of the loss, to first order, when a unit goes: mean over batches.

    .. math:: s_u = \frac1B \sum_b \Big(\sum_{i \in u} g_i^{(b)} w_i\Big)^2

    over the weights in ``members``: by default those that read the unit. (Over all
    that becomes zero with it, the unit would count once for every factor on its path.) One batch of all
    examples gives the square of the first-order change itself. Source: Molchanov et al.,
    Importance Estimation for Neural Network Pruning, CVPR 2019, section 3.1 (joint importance of a set).

    Raises DataError for an empty loader, NonFiniteError naming a group.
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
    """Hand on g w of every batch; how many there were."""
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
