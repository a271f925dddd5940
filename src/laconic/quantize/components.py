"""The components of a mixture as a codebook: close ones merged, each weight on its most responsible one.

Source: Ullrich, Meeds & Welling, Soft Weight-Sharing for Neural Network Compression, ICLR 2017, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from laconic.errors import InputError
from laconic.records import FloatArray, IntArray

Floats = npt.NDArray[np.float64]
_LOG_TINY = 1e-300


@dataclass(frozen=True, eq=False)
class Components:
    """Gaussians of a mixture, in no order.

    Args:
        means: Shape (components,).
        stds: Above 0, of the same shape.
        shares: At least 0, of the same shape.
        zero: Index of the component that stays at zero, if there is one.

    Raises:
        InputError: No component, shapes that differ, or a standard deviation that is not above 0.

    >>> Components(np.array([0.0, 0.3]), np.array([0.01, 0.1]), np.array([0.9, 0.1]), zero=0).means.size
    2
    """

    means: Floats
    stds: Floats
    shares: Floats
    zero: int | None = None

    def __post_init__(self) -> None:
        if self.means.ndim != 1 or not self.means.size:
            raise InputError(
                "a codebook of components needs at least one component, got none. Cure: one mean, std and "
                "share or more"
            )
        if not self.means.shape == self.stds.shape == self.shares.shape:
            raise InputError(
                f"components have {self.means.size} means, {self.stds.size} stds, {self.shares.size} shares. "
                "Cure: a mean, a std and a share for each component"
            )
        if not (self.stds > 0).all():
            raise InputError(f"stds of components must be above 0, got {self.stds.tolist()}. Cure: 0.02")


def merge(components: Components, limit: float) -> Components:
    r"""Merge the two closest components until all are at least ``limit`` nats apart.

    The distance is :math:`KL(p\|q) + KL(q\|p)`; the merged component has the moments of the two. One that is
    merged with the component at zero is at zero.

    Args:
        components: The mixture.
        limit: Nats, at least 0; 0 merges none.

    Returns:
        The merged components.

    >>> three = Components(np.array([0.0, 0.3, 0.32]), np.full(3, 0.1), np.array([0.9, 0.05, 0.05]), zero=0)
    >>> merge(three, 1.0).means.round(3).tolist()
    [0.0, 0.31]
    """
    means, variances, shares = components.means.copy(), components.stds**2, components.shares.copy()
    zero = components.zero
    while len(means) > 1:
        apart = _distances(means, variances)
        a, b = sorted(int(k) for k in np.unravel_index(int(apart.argmin()), apart.shape))
        if not apart[a, b] < limit:
            break
        total = shares[a] + shares[b]
        first = shares[a] / total if total > 0 else 0.5
        at_zero = zero in (a, b)
        mean = 0.0 if at_zero else first * means[a] + (1 - first) * means[b]
        spread = [variances[k] + (means[k] - mean) ** 2 for k in (a, b)]
        variance = first * spread[0] + (1 - first) * spread[1]
        means[a], variances[a], shares[a] = mean, variance, total
        means, variances, shares = (np.delete(v, b) for v in (means, variances, shares))
        if zero is not None:
            zero = a if at_zero else zero - (zero > b)
    return Components(means, np.sqrt(variances), shares, zero)


def _distances(means: Floats, variances: Floats) -> Floats:
    """Symmetric KL of each pair; infinite on the diagonal."""
    ratio = variances[:, None] / variances
    square = (means[:, None] - means) ** 2
    found = 0.5 * (ratio + 1 / ratio - 2 + square * (1 / variances[:, None] + 1 / variances))
    np.fill_diagonal(found, np.inf)
    return np.asarray(found)


def most_responsible(
    values: FloatArray, components: Components, variances: FloatArray | None = None
) -> IntArray:
    r"""Index of the component with the largest :math:`\log\pi_j + E\log N(w|\mu_j, s_j^2)` for each weight.

    Args:
        values: Means of the weights, any shape.
        components: The mixture.
        variances: Their variances, of the same shape; None: 0, as of point weights.

    Returns:
        int32, of the same shape; the first on a tie.

    >>> two = Components(np.array([0.0, 0.3]), np.array([0.01, 0.1]), np.array([0.9, 0.1]), zero=0)
    >>> most_responsible(np.float32([-0.01, 0.04, 0.5]), two).tolist()
    [0, 1, 1]
    """
    wide = np.asarray(values, np.float64)
    best = np.full(wide.shape, -np.inf)
    found = np.zeros(wide.shape, np.int32)
    for j, (mean, std, share) in enumerate(
        zip(components.means, components.stds, components.shares, strict=True)
    ):
        square = (wide - mean) ** 2
        if variances is not None:
            square += variances
        score = np.log(max(float(share), _LOG_TINY)) - np.log(std) - square / (2 * std**2)
        better = score > best
        best[better], found[better] = score[better], j
    return found
