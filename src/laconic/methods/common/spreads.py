"""The posterior's spread that a result keeps: two numbers a tensor, in facts and so in the run's record."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from laconic.records import Tensor, WeightStats

SPREAD = "posterior_spread"
"""The fact: by tensor, root mean square posterior deviation of weights that are not zero, and of those at
zero that were not removed, in the weights' unit.
"""


def spreads_of(
    stats: Mapping[str, WeightStats],
    keeps: Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.bool_]]],
    tensors: Mapping[str, Tensor],
) -> dict[str, list[float]]:
    """Root mean square deviations of the weights that a decision left, by tensor.

    Args:
        stats: Posterior means and variances.
        keeps: True where a weight was not removed: a removed weight is zero, and no longer random.
        tensors: The decided tensors.

    Returns:
        ``[not zero, zero]`` for each tensor.

    >>> from laconic.records import IntTensor, UniformGrid
    >>> stats = {"w": WeightStats("w", np.float32([1.0, 0.1, 0.0]), np.float32([0.04, 0.09, 4.0]))}
    >>> tensors = {"w": IntTensor("w", np.int32([2, 0, 0]), UniformGrid(0.5))}
    >>> [round(s, 3) for s in spreads_of(stats, {"w": np.array([True, True, False])}, tensors)["w"]]
    [0.2, 0.3]
    """
    found = {}
    for name, given in stats.items():
        held = np.asarray(tensors[name].values()) != 0
        parts = (held, ~held & keeps[name])
        found[name] = [_deviation(given.variance[part]) for part in parts]
    return found


def _deviation(variances: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> float:
    return float(np.sqrt(variances.mean(dtype=np.float64))) if variances.size else 0.0
