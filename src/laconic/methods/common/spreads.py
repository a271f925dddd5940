"""The posterior's spread that a result keeps: two numbers a tensor, in facts and so in the run's record.

They are medians, as the deviation is of which a grid's step is a multiple. Weights that read an input which
is always zero keep the prior's deviation, and would rule a root mean square although no output feels them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from laconic.records import Tensor, WeightStats

SPREAD = "posterior_spread"
"""The fact: by tensor, median posterior deviation of weights that are not zero, and of those at
zero that were not removed, in the weights' unit.
"""


def spreads_of(
    stats: Mapping[str, WeightStats],
    keeps: Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.bool_]]],
    tensors: Mapping[str, Tensor],
) -> dict[str, list[float]]:
    """Median deviations of the weights that a decision left, by tensor.

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
    return float(np.median(np.sqrt(variances))) if variances.size else 0.0
