r"""A likelihood view of quantisation: how likely a posterior makes each level, and how many levels it needs.

A level c of a grid is worth :math:`\log q(c)` nats to a weight, q being its posterior, in place of the
squared error :math:`(\theta - c)^2`. A weight takes

.. math:: \arg\max_k \; \log q(c_k) - \lambda R_k

with :math:`R_k` the nats that a coder asks for level k. Under a normal posterior this is the nearest level at
:math:`\lambda = 0`, and :math:`-\log q` is the squared error over :math:`2\sigma^2` (Achterhold et al. 2018,
section 3.3; :mod:`laconic.quantize.rate_distortion`). Under others it is not: a log-normal scale has its mode
below its mean, and a hard concrete gate has probability at exactly zero.

**Bits that a posterior asks for.** Let the kept weights of a tensor have root mean square s, and a weight the
posterior variance :math:`\sigma_i^2`. Taken as a draw from :math:`N(0, s^2)` that is seen through noise of
that variance, it carries

.. math:: b_i = \tfrac12\log_2\left(1 + s^2/\sigma_i^2\right)

bits: the capacity of the Gaussian channel, and the rate of a Gaussian source of variance
:math:`s^2 + \sigma_i^2` at the distortion :math:`\sigma_i^2` (Cover and Thomas 2006, sections 9.1 and 10.3).
:math:`2^{b_i}` levels of the prior's range are told apart at the posterior's spread. A **width** in
whole bits is the smallest whose uniform grid costs no more than a given number of nats a weight; with a step
of k deviations it costs about :math:`k^2/24`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from laconic.errors import InputError
from laconic.quantize.uniform import step_for_bits
from laconic.records import IntArray, WeightStats

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
LogLikelihood = Callable[[float], Floats]
"""From a level, in the weights' unit, to its log-likelihood for each weight: nats, of the weights' shape."""

BITS = "bits_by_posterior"
"""The fact of a run that holds, by tensor, the bits that its weights need (:class:`LayerBits`)."""
MOST_BITS = 24
"""Bits of a float32 number's sign and significand, the most that a weight gets."""
NATS = 0.5
"""Expected loss of log-likelihood a weight, up to which a width is wide enough."""
_TINY = 1e-30


def lost_nats(means: npt.ArrayLike, precision: npt.ArrayLike, values: npt.ArrayLike) -> Floats:
    r""":math:`\log q(\theta) - \log q(w) = (w - \theta)^2/2\sigma^2` of normal posteriors.

    Args:
        means: :math:`\theta`, any shape.
        precision: :math:`1/\sigma^2`, of the same shape.
        values: w, of a shape that broadcasts to it.

    Returns:
        Nats, at least 0.

    >>> lost_nats([1.0], [4.0], [0.5]).tolist()
    [0.5]
    """
    apart = np.asarray(means, np.float64) - np.asarray(values, np.float64)
    return np.asarray(0.5 * np.asarray(precision, np.float64) * apart**2)


def normal_log_likelihood(stats: WeightStats) -> LogLikelihood:
    r"""Log-likelihoods of levels under normal posteriors of these moments.

    .. math:: \log q(c) = -\frac{(c - \theta)^2}{2\sigma^2} - \tfrac12\log(2\pi\sigma^2)

    Args:
        stats: Means and variances.

    Returns:
        A function of a level.

    >>> one = WeightStats("w", np.float32([0.5]), np.float32([1.0]))
    >>> normal_log_likelihood(one)(0.5).round(4).tolist()
    [-0.9189]
    """
    variance = np.maximum(stats.variance.astype(np.float64), _TINY)
    height = 0.5 * np.log(2.0 * np.pi * variance)
    return lambda level: -lost_nats(stats.mean, 1.0 / variance, level) - height


def most_likely(
    log_likelihood: LogLikelihood,
    levels: Sequence[float],
    *,
    price: float = 0.0,
    keep: Bools | None = None,
    iterations: int = 4,
) -> IntArray:
    r"""The level that each weight takes: :math:`\arg\max_k \log q(c_k) - \lambda R_k`.

    At a price above zero, R is the code length in nats under the levels' own frequencies,
    :math:`-\log(n_k/n)`, counted and chosen in turns.

    Args:
        log_likelihood: Of one level for each weight.
        levels: The codebook, rising, in the weights' unit.
        price: :math:`\lambda`, nats of log-likelihood that are given for one nat of rate, at least 0.
        keep: Weights that are counted, of the weights' shape (None: all).
        iterations: Turns of counting and choosing, at least 1.

    Returns:
        int32 indices in 0..K-1, of the weights' shape; the lower level on a tie.

    Raises:
        InputError: Levels that do not rise, or none; a negative price; no turn.

    >>> stats = WeightStats("w", np.float32([0.01, -0.02, 0.04, 0.11]), np.full(4, 0.01, np.float32))
    >>> likelihood = normal_log_likelihood(stats)
    >>> most_likely(likelihood, (-0.2, 0.0, 0.2)).tolist()
    [1, 1, 1, 2]
    >>> most_likely(likelihood, (-0.2, 0.0, 0.2), price=1.0).tolist()  # a rare level costs more bits
    [1, 1, 1, 1]
    """
    book = np.asarray(levels, np.float64)
    if book.ndim != 1 or book.size == 0 or np.any(np.diff(book) <= 0):
        raise InputError(
            f"codebook levels must be a rising list, got {book.tolist()}. Cure: levels=(-0.2, 0.0, 0.2)"
        )
    if not price >= 0 or iterations < 1:
        raise InputError(f"price must be >= 0 and iterations >= 1, got {price}, {iterations}. Cure: price=0")
    chosen = _best(log_likelihood, book, np.zeros(book.size))
    for _ in range(iterations if price > 0 else 0):
        counted = chosen if keep is None else chosen[keep]
        shares = np.bincount(counted.ravel(), minlength=book.size) / max(1, counted.size)
        before, chosen = chosen, _best(log_likelihood, book, -price * np.log(np.maximum(shares, _TINY)))
        if np.array_equal(before, chosen):
            break
    return chosen


def _best(log_likelihood: LogLikelihood, book: Floats, prices: Floats) -> IntArray:
    """One choice, level by level, so that memory does not grow with the codebook."""
    best, found = None, np.zeros((), np.int32)
    for k, (level, price) in enumerate(zip(book.tolist(), prices.tolist(), strict=True)):
        score = log_likelihood(level) - price
        if best is None:
            best, found = score, np.zeros(score.shape, np.int32)
            continue
        better = score > best
        best = np.where(better, score, best)
        found[better] = k
    return found


def bits_of_weights(stats: WeightStats, keep: Bools | None = None) -> Floats:
    r"""Bits that each kept weight carries, :math:`\frac12\log_2(1 + s^2/\sigma^2)`, at most 24.

    Args:
        stats: Means and variances; s is the root mean square of the kept means.
        keep: Booleans of the weight's shape (None: all).

    Returns:
        Bits by kept weight, flat.

    >>> stats = WeightStats("w", np.float32([1.0, -1.0, 0.1]), np.float32([1 / 15, 1 / 3, 9.0]))
    >>> bits_of_weights(stats, np.array([True, True, False])).round(6).tolist()
    [2.0, 1.0]
    """
    means, variances = _kept(stats, keep)
    power = float(np.mean(means**2)) if means.size else 0.0
    capacity = 0.5 * np.log2(1.0 + power / np.maximum(variances, _TINY))
    return np.asarray(np.minimum(capacity, MOST_BITS))


def width_for(stats: WeightStats, keep: Bools | None = None, nats: float = NATS) -> int:
    r"""The fewest bits whose uniform grid costs at most ``nats`` of log-likelihood a weight on average.

    The grid of b bits spans the kept means, :math:`\Delta = \max|\theta|/(2^{b-1} - 1)`, and the cost is the
    mean of :math:`(\theta - \hat\theta)^2/2\sigma^2`. A width of 0 stores zeros; there is no signed grid of
    1 bit.

    Args:
        stats: Means and variances.
        keep: Booleans of the weight's shape (None: all).
        nats: What a weight may lose, above 0.

    Returns:
        0, or 2 to 24.

    Raises:
        InputError: ``nats`` that is not above 0.

    >>> rng = np.random.default_rng(0)
    >>> means = rng.uniform(-1, 1, 1000).astype(np.float32)
    >>> [width_for(WeightStats("w", means, np.full(1000, v, np.float32))) for v in (1e-6, 1e-4, 1e-2, 1.0)]
    [10, 6, 3, 0]
    """
    if not 0 < nats < math.inf:
        raise InputError(f"the nats that a weight may lose must be finite and > 0, got {nats}. Cure: {NATS}")
    means, variances = _kept(stats, keep)
    precision = 1.0 / np.maximum(variances, _TINY)
    if not means.size or float(np.mean(lost_nats(means, precision, 0.0))) <= nats:
        return 0
    for bits in range(2, MOST_BITS):
        step = step_for_bits(means, bits)
        if float(np.mean(lost_nats(means, precision, step * np.rint(means / step)))) <= nats:
            return bits
    return MOST_BITS


def _kept(stats: WeightStats, keep: Bools | None) -> tuple[Floats, Floats]:
    """Means and variances of the kept weights, flat."""
    keep = np.ones(stats.mean.shape, bool) if keep is None else keep
    return stats.mean[keep].astype(np.float64), stats.variance[keep].astype(np.float64)


@dataclass(frozen=True)
class LayerBits:
    """Bits that a layer's weights need by their posterior.

    Args:
        weights: How many weights stay.
        mean: Mean of their bits.
        low: The bits that a tenth of them stay below.
        median: The middle one.
        high: The bits that a tenth of them are above.
        width: Whole bits of a uniform grid that loses at most :data:`NATS` nats a weight.
    """

    weights: int
    mean: float
    low: float
    median: float
    high: float
    width: int


def bits_by_layer(
    stats: Mapping[str, WeightStats], keeps: Mapping[str, Bools] | None = None, nats: float = NATS
) -> dict[str, LayerBits]:
    """Of each tensor the mean and quantiles of its weights' bits, and its width.

    Args:
        stats: Means and variances by name.
        keeps: By the same names, booleans of the weight's shape: the weights that stay (None: all).
        nats: What a weight may lose on average, for the width.

    Returns:
        By name; a tensor without a weight has zeros.

    >>> stats = WeightStats("w", np.float32([1.0, -1.0]), np.float32([1 / 15, 1 / 15]))
    >>> bits_by_layer({"w": stats})["w"]
    LayerBits(weights=2, mean=2.0, low=2.0, median=2.0, high=2.0, width=2)
    """
    found = {}
    for name, one in stats.items():
        keep = None if keeps is None else keeps[name]
        bits = bits_of_weights(one, keep)
        low, median, high = np.quantile(bits, (0.1, 0.5, 0.9)).round(4).tolist() if bits.size else (0.0,) * 3
        mean = round(float(bits.mean()), 4) if bits.size else 0.0
        found[name] = LayerBits(int(bits.size), mean, low, median, high, width_for(one, keep, nats))
    return found
