"""Magnitude: small weights go.

Layers and groups compare as they are, or on equal terms by :mod:`laconic.sparsify.scores.normalise`.
"""

from __future__ import annotations

from torch import nn

from laconic.sparsify.scores.aggregate import Members, group_scores, norm, producers, total
from laconic.sparsify.scores.common import GroupScores, WeightScores, finite, parameters_of
from laconic.structure.coupling.groups import Coupling


def magnitude_weights(module: nn.Module) -> WeightScores:
    """|w| of every parameter. Source: Han et al. 2015, section 3.1.

    Raises NonFiniteError naming a parameter that holds a NaN.

    >>> layer = nn.Linear(1, 2, bias=False)
    >>> _ = layer.weight.data.copy_(layer.weight.new_tensor([[-3.0], [2.0]]))
    >>> magnitude_weights(layer)["weight"].tolist()
    [[3.0], [2.0]]
    """
    return finite({name: w.abs() for name, w in parameters_of(module).items()}, "magnitude")


def l1_groups(module: nn.Module, coupling: Coupling, *, members: Members = producers) -> GroupScores:
    """Sum of |w| over a unit's weights (L1). Source: Li et al., Pruning Filters, ICLR 2017."""
    return group_scores(module, coupling, magnitude_weights(module), how=total, members=members)


def l2_groups(module: nn.Module, coupling: Coupling, *, members: Members = producers) -> GroupScores:
    """Root of the sum of w^2 over a unit's weights (L2), the norm that group Lasso penalises.

    Source: Wen et al., Structured Sparsity Learning, NIPS 2016, section 3.
    """
    return group_scores(module, coupling, magnitude_weights(module), how=norm, members=members)
