r"""The three figures of merit of Louizos, Ullrich & Welling (NIPS 2017, section 5), and bits by layer.

Each is the size of the original network's weights in float32 against that of what is left, biases not
counted:

.. math:: pruning = \frac{W_0}{W},\qquad
          fast\ prediction = \frac{32 W_0}{\sum_l b_l W_l},\qquad
          maximum\ compression = \frac{32 W_0}{\sum_l B_l}

with :math:`W_0` weights before, :math:`W_l` left in layer l of the small dense network, :math:`b_l` the bits
that its posterior asks for (:mod:`laconic.quantize.posterior_bits`), and :math:`B_l` the layer's bits in the
format of Deep Compression, whose clusters are the values on our grid
(:mod:`laconic.quantize.deep_compression`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from laconic.quantize.deep_compression import deep_compression_bits
from laconic.quantize.posterior_bits import posterior_bits
from laconic.records import Tensor, WeightStats


def merit_facts(
    before: int,
    stats: Mapping[str, WeightStats],
    alive: Mapping[str, npt.NDArray[np.bool_]],
    tensors: Mapping[str, Tensor],
) -> dict[str, Any]:
    """The figures and the bits by layer, as facts of a record.

    Args:
        before: Weights of the original network, :math:`W_0`.
        stats: Means and marginal variances of the weights that are left, by name.
        alive: By the same names, False where a weight is removed with its column.
        tensors: The weights on their grids, by name.

    Returns:
        ``pruning_factor``, ``fast_prediction_factor``, ``maximum_compression_factor``, ``posterior_bits`` by
        layer.

    >>> stats = {"w": WeightStats("w", np.float32([[1.0, 2.0]]), np.full((1, 2), 2.0**-6, np.float32))}
    >>> merit_facts(10, stats, {"w": np.ones((1, 2), bool)}, {})["fast_prediction_factor"]
    22.857142857142858
    """
    bits = posterior_bits(stats, {n: alive[n] for n in stats}).total
    left = {n: int(alive[n].sum()) for n in stats}
    fixed = sum(bits[n] * left[n] for n in stats)
    coded = sum(deep_compression_bits(tensors[n].values()) for n in stats if n in tensors)
    return {
        "weights_before_units": before,
        "weights_left_dense": sum(left.values()),
        "pruning_factor": before / max(1, sum(left.values())),
        "fast_prediction_factor": 32 * before / max(1, fixed),
        "maximum_compression_factor": 32 * before / max(1, coded),
        "maximum_compression_bytes": -(-coded // 8),
        "posterior_bits": bits,
    }


def merit_text(facts: Mapping[str, Any]) -> str:
    """The three figures in one line; empty where a record has none.

    >>> merit_text({"pruning_factor": 9.04, "fast_prediction_factor": 36, "maximum_compression_factor": 58.2})
    "the paper's counts, of weights alone: pruning 9.0x, fast prediction 36.0x, maximum compression 58.2x"
    """
    names = ("pruning", "fast_prediction", "maximum_compression")
    if any(f"{name}_factor" not in facts for name in names):
        return ""
    told = ", ".join(f"{name.replace('_', ' ')} {facts[f'{name}_factor']:.1f}x" for name in names)
    return f"the paper's counts, of weights alone: {told}"
