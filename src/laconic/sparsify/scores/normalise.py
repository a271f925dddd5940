"""Normalised scores: scores divided by a typical value of their own layer or group.

Scores of different layers differ in scale for reasons that have nothing to do with importance. Each function
takes scores of weights or of groups and gives the same shape back, one layer or group at a time.

Sources: the L2 norm is Molchanov et al., Pruning CNNs for Resource Efficient Inference, ICLR 2017
("Normalization"); mean, sum and maximum are the normalisers of Torch-Pruning, the library of Fang et al.,
DepGraph, CVPR 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from laconic.sparsify.scores.common import GroupScores, UnitScores, WeightScores

_TINY = 1e-30


def weights_each(scores: Mapping[str, Tensor], by: Callable[[UnitScores], UnitScores]) -> WeightScores:
    """Scores of weights, normalised tensor by tensor.

    Args:
        scores: By parameter, a tensor.
        by: The normalisation of one layer: one of the functions ``by_...`` of this module.

    Returns:
        By parameter, a tensor of the same shape, type and device.

    >>> weights_each({"a": torch.tensor([1.0, 3.0]), "b": torch.tensor([10.0, 30.0])}, by_mean)["b"].tolist()
    [0.5, 1.5]
    """
    return {
        name: torch.from_numpy(by(s.detach().to("cpu", torch.float64).numpy())).to(s.device, s.dtype)
        for name, s in scores.items()
    }


def groups_each(scores: Mapping[str, UnitScores], by: Callable[[UnitScores], UnitScores]) -> GroupScores:
    """Scores of units, normalised group by group.

    Args:
        scores: By group, one number per unit.
        by: The normalisation of one group: one of the functions ``by_...`` of this module.

    Returns:
        By group, one number per unit.

    >>> groups_each({"a:0": np.array([1.0, 3.0]), "b:0": np.array([10.0, 40.0])}, by_largest)["b:0"].tolist()
    [0.25, 1.0]
    """
    return {name: by(np.asarray(s, np.float64)) for name, s in scores.items()}


def by_mean(scores: UnitScores) -> UnitScores:
    """Scores over their mean absolute value: s / mean |s|.

    Args:
        scores: Scores of one layer or group, of any shape.

    Returns:
        Of the same shape.

    >>> by_mean(np.array([1.0, 3.0])).tolist()
    [0.5, 1.5]
    """
    return np.asarray(scores / max(float(np.abs(scores).mean()), _TINY))


def by_total(scores: UnitScores) -> UnitScores:
    """Scores over their sum: s / sum |s|. The fewer units a layer has left, the higher the share of each.

    Args:
        scores: Scores of one layer or group, of any shape.

    Returns:
        Of the same shape.

    >>> by_total(np.array([1.0, 3.0])).tolist()
    [0.25, 0.75]
    """
    return np.asarray(scores / max(float(np.abs(scores).sum()), _TINY))


def by_largest(scores: UnitScores) -> UnitScores:
    """Scores over the largest: s / max |s|.

    Args:
        scores: Scores of one layer or group, of any shape.

    Returns:
        Of the same shape, in [-1, 1].

    >>> by_largest(np.array([1.0, 4.0])).tolist()
    [0.25, 1.0]
    """
    return np.asarray(scores / max(float(np.abs(scores).max()), _TINY))


def by_norm(scores: UnitScores) -> UnitScores:
    """Scores over their L2 norm: s / ||s||_2. Source: Molchanov et al., ICLR 2017 ("Normalization").

    Args:
        scores: Scores of one layer or group, of any shape.

    Returns:
        Of the same shape, with norm 1.

    >>> by_norm(np.array([3.0, 4.0])).tolist()
    [0.6, 0.8]
    """
    return np.asarray(scores / max(float(np.linalg.norm(scores.ravel())), _TINY))


def by_rank(scores: UnitScores) -> UnitScores:
    """Ranks from the lowest score, 0, to the highest, near 1; equal scores by position.

    Args:
        scores: Scores of one layer or group, of any shape.

    Returns:
        Of the same shape, in [0, 1).

    >>> by_rank(np.array([5.0, -1.0, 7.0, 6.0])).tolist()
    [0.25, 0.0, 0.75, 0.5]
    """
    order = np.argsort(scores, axis=None, kind="stable").argsort(kind="stable")
    return np.asarray(order.reshape(scores.shape) / max(scores.size, 1), np.float64)


def left_alone(
    scores: Mapping[str, UnitScores],
    alive: Mapping[str, npt.NDArray[np.bool_]],
    by: Callable[[UnitScores], UnitScores],
) -> GroupScores:
    """Scores normalised group by group over the remaining units, as in a shrunk network; removed ones get 0.

    >>> left_alone({"a": np.array([1.0, 3, 9])}, {"a": np.array([True, True, False])}, by_mean)["a"].tolist()
    [0.5, 1.5, 0.0]
    """
    found: GroupScores = {}
    for name, values in scores.items():
        found[name] = np.zeros(values.shape)
        if alive[name].any():
            found[name][alive[name]] = by(np.asarray(values, np.float64)[alive[name]])
    return found
