"""Layers and groups on equal terms: scores divided by what is usual in their own layer or group.

Scores of different layers differ in scale for reasons that say nothing of what may go. Each function takes
scores of weights or of groups and gives the same shape back, one layer or group at a time.
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
    """Scores of weights, tensor by tensor normalised.

    >>> weights_each({"a": torch.tensor([1.0, 3.0]), "b": torch.tensor([10.0, 30.0])}, by_mean)["b"].tolist()
    [0.5, 1.5]
    """
    return {
        name: torch.from_numpy(by(s.detach().to("cpu", torch.float64).numpy())).to(s.device, s.dtype)
        for name, s in scores.items()
    }


def groups_each(scores: Mapping[str, UnitScores], by: Callable[[UnitScores], UnitScores]) -> GroupScores:
    """Scores of units, group by group normalised."""
    return {name: by(np.asarray(s, np.float64)) for name, s in scores.items()}


def by_mean(scores: UnitScores) -> UnitScores:
    """S / mean |s|."""
    return np.asarray(scores / max(float(np.abs(scores).mean()), _TINY))


def by_total(scores: UnitScores) -> UnitScores:
    """S / sum |s|: shares of their layer, so that the fewer units are left, the more each of them counts."""
    return np.asarray(scores / max(float(np.abs(scores).sum()), _TINY))


def by_largest(scores: UnitScores) -> UnitScores:
    """S / max |s|."""
    return np.asarray(scores / max(float(np.abs(scores).max()), _TINY))


def by_norm(scores: UnitScores) -> UnitScores:
    """S / ||s||_2. Source: Molchanov et al., ICLR 2017, section 2.2."""
    return np.asarray(scores / max(float(np.linalg.norm(scores.ravel())), _TINY))


def by_rank(scores: UnitScores) -> UnitScores:
    """Rank from the worst, 0, to the best, near 1; equal scores by position.

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
    """Group by group normalised over the units that are alive, as in a network that is shrunk; others get 0.

    >>> left_alone({"a": np.array([1.0, 3, 9])}, {"a": np.array([True, True, False])}, by_mean)["a"].tolist()
    [0.5, 1.5, 0.0]
    """
    found: GroupScores = {}
    for name, values in scores.items():
        found[name] = np.zeros(values.shape)
        if alive[name].any():
            found[name][alive[name]] = by(np.asarray(values, np.float64)[alive[name]])
    return found
