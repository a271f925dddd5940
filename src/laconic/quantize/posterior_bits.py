r"""Bits that each layer's weights need, from how sure the posterior is of them.

Louizos, Ullrich & Welling, Bayesian Compression for Deep Learning, NIPS 2017, section 4.3: weights are kept
as floating-point numbers of one sign bit, an exponent that reaches the largest weight, and a significand that
is no finer than the posterior. With t significand bits the unit round-off is :math:`u_t = \frac12 2^{1-t}`. A
weight of marginal posterior variance V has use for those of the 23 significand bits with

.. math:: u_t > 2V

as the authors' code counts (the round-off is compared with twice the variance, not with a deviation). A layer
takes the mean over its weights, rounded up. The exponent takes :math:`\lceil\log_2(\log_2 m + 1) + 1\rceil`
bits with m the largest absolute weight of the network; the authors' formula is undefined for m below 1/2 and
gives next to nothing near it, so that :math:`|\log_2 m|` stands here: the exponent's sign is the second 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from laconic.records import WeightStats

SIGNIFICAND = 23
"""Significand bits of float32, the most that a weight gets."""


@dataclass(frozen=True)
class PosteriorBits:
    """Bits of each layer's weights.

    Args:
        exponent: Bits of the exponent, its sign included, the same for all layers.
        significand: By layer, bits of the significand.

    >>> PosteriorBits(2, {"fc.weight": 5}).total
    {'fc.weight': 8}
    """

    exponent: int
    significand: Mapping[str, int]

    @property
    def total(self) -> dict[str, int]:
        """By layer: one sign bit, the exponent and the significand."""
        return {name: 1 + self.exponent + bits for name, bits in self.significand.items()}


def posterior_bits(
    stats: Mapping[str, WeightStats], keeps: Mapping[str, npt.NDArray[np.bool_]] | None = None
) -> PosteriorBits:
    """Bits that each tensor's weights need by their posterior variance.

    Args:
        stats: Means and marginal variances by name.
        keeps: By the same names, booleans of the weight's shape: the weights that stay (None: all).

    Returns:
        The bits; a tensor without a weight gets a significand of none.

    >>> variance = np.float32([2.0**-6, 2.0**-6])
    >>> posterior_bits({"w": WeightStats("w", np.float32([0.5, -2.0]), variance)})
    PosteriorBits(exponent=2, significand={'w': 4})
    """
    roundoff = 0.5 * 2.0 ** (1.0 - np.arange(1, SIGNIFICAND + 1))
    significand, largest = {}, 0.0
    for name, s in stats.items():
        keep = np.ones(s.mean.shape, bool) if keeps is None else keeps[name]
        variance = 2.0 * s.variance[keep].astype(np.float64)
        counts = SIGNIFICAND - np.searchsorted(roundoff[::-1], variance, side="right")
        significand[name] = math.ceil(float(counts.mean())) if counts.size else 0
        largest = max(largest, float(np.abs(s.mean[keep]).max(initial=0.0)))
    return PosteriorBits(_exponent_bits(largest), significand)


def _exponent_bits(largest: float) -> int:
    reach = abs(math.log2(largest)) if largest > 0 else 0.0
    return math.ceil(math.log2(reach + 1.0) + 1.0)
