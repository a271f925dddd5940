"""Magnitude: small weights are removed.

Layers and groups are compared as they are, or after :mod:`laconic.sparsify.scores.normalise`.
"""

from __future__ import annotations

from torch import nn

from laconic.networks.evaluation import parameters_of
from laconic.sparsify.scores.aggregate import Members, group_scores, norm, producers, total
from laconic.sparsify.scores.common import GroupScores, WeightScores, finite
from laconic.structure.coupling.groups import Coupling


def magnitude_weights(module: nn.Module) -> WeightScores:
    """|w| of every parameter.

    Source: Han et al., Learning both Weights and Connections, NIPS 2015.

    Args:
        module: The network.

    Returns:
        By parameter, a tensor of its shape.

    Raises:
        NonFiniteError: A parameter holds NaN or infinity; names it.

    >>> layer = nn.Linear(1, 2, bias=False)
    >>> _ = layer.weight.data.copy_(layer.weight.new_tensor([[-3.0], [2.0]]))
    >>> magnitude_weights(layer)["weight"].tolist()
    [[3.0], [2.0]]
    """
    return finite({name: w.abs() for name, w in parameters_of(module).items()}, "magnitude")


def l1_groups(module: nn.Module, coupling: Coupling, *, members: Members = producers) -> GroupScores:
    r"""Sum of |w| over a unit's weights (L1 norm).

    .. math:: s_u = \sum_{i \in u} |w_i|

    Source: Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017, section 3.1.

    Args:
        module: The network.
        coupling: Its groups.
        members: Which tensors count: :func:`producers`, :func:`readers` or :func:`everything`.

    Returns:
        By group, one number at least 0 per unit.

    Raises:
        NonFiniteError: A parameter holds NaN or infinity; names it.

    >>> import torch
    >>> from laconic.structure import find_groups
    >>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> _ = net[0].weight.data.copy_(torch.tensor([[3.0, -4.0], [0.0, 1.0]]))
    >>> l1_groups(net, find_groups(net, torch.zeros(2, 2)))["0.weight:0"].tolist()
    [7.0, 1.0]
    """
    return group_scores(module, coupling, magnitude_weights(module), how=total, members=members)


def l2_groups(module: nn.Module, coupling: Coupling, *, members: Members = producers) -> GroupScores:
    r"""Root of the sum of w^2 over a unit's weights (L2 norm): the norm that group Lasso penalises.

    .. math:: s_u = \Big(\sum_{i \in u} w_i^2\Big)^{1/2}

    Source: Wen et al., Learning Structured Sparsity in Deep Neural Networks, NIPS 2016, section 3.

    Args:
        module: The network.
        coupling: Its groups.
        members: Which tensors count: :func:`producers`, :func:`readers` or :func:`everything`.

    Returns:
        By group, one number at least 0 per unit.

    Raises:
        NonFiniteError: A parameter holds NaN or infinity; names it.

    >>> import torch
    >>> from laconic.structure import find_groups
    >>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> _ = net[0].weight.data.copy_(torch.tensor([[3.0, -4.0], [0.0, 1.0]]))
    >>> l2_groups(net, find_groups(net, torch.zeros(2, 2)))["0.weight:0"].tolist()
    [5.0, 1.0]
    """
    return group_scores(module, coupling, magnitude_weights(module), how=norm, members=members)
