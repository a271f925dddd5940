r"""The KL of a Gaussian posterior to VNQ's prior by numerical integration, in place of the windowed formula.

With the density :math:`p(w) = \frac1K\sum_k 1/|w - c_k|` (Achterhold et al. 2018, eq. 11-12), up to a
constant,

.. math:: KL = \tfrac12(\gamma + \log 2) - \log\sigma - \int N(w|\theta, \sigma^2)\,\log p(w)\,dw

(:math:`\gamma` is Euler's constant), which goes to 0 as :math:`\sigma` grows, as the KL to the log-uniform
prior does. The integrand has a logarithmic singularity at each level and is smooth between two levels. So
:math:`[\theta - 7\sigma, \theta + 7\sigma]` is cut at the levels, and each piece [a, b] is integrated by the
double exponential rule (Takahasi and Mori 1974),

.. math:: \int_a^b f(w)\,dw \approx h\,(b - a)\sum_i x_i'\,f(a + (b - a)x_i), \qquad
          x_i = 1/(1 + e^{-\pi\sinh(ih)}),

whose nodes accumulate at both ends; the distance of a node from a level is computed without cancellation.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

PIECE = 1 << 11
"""Weights that are integrated at a time: each needs (levels + 1) * nodes numbers of memory."""
_HALF_WIDTH = 7.0  # standard deviations on each side of the mean; 3e-12 of the probability lies outside
_STEP, _LAST = 1 / 12, 39  # h, and the largest i: x_i is 2e-17 from the end there
_CONSTANT = 0.5 * (0.5772156649015329 + math.log(2.0))


def integrated_kl(mean: Tensor, log_var: Tensor, levels: Tensor) -> Tensor:
    r"""The KL by weight, nats, differentiable in all three arguments.

    Args:
        mean: :math:`\theta`, any shape.
        log_var: :math:`\log\sigma^2`, of the same shape.
        levels: The codebook, rising, shape (levels,).

    Returns:
        The KL up to a constant, of the shape of ``mean``.

    >>> levels = torch.tensor([-1.0, 0.0, 1.0]).double()
    >>> mean, log_var = torch.tensor([0.0, 1.0, 1e6]).double(), torch.tensor([9.0, -30.0, 0.0]).double()
    >>> [round(v, 4) for v in integrated_kl(mean, log_var, levels).tolist()]  # noise; a level; far away
    [-0.0091, 1.0986, 14.4507]
    """
    pieces = [torch.split(t.reshape(-1), PIECE) for t in (mean, log_var)]
    run = functools.partial(checkpoint, _piece, use_reentrant=False, preserve_rng_state=False)
    found = [run(m, v, levels) for m, v in zip(*pieces, strict=True)]  # backward computes the nodes again
    return torch.cat(found).view(mean.shape)


def _piece(mean: Tensor, log_var: Tensor, levels: Tensor) -> Tensor:
    """The KL of flat weights, in their type.

    In float64 and in standard deviations from the mean, where log sigma cancels: a deviation below the
    spacing of numbers about the mean would leave nothing between mean - 7 sigma and mean + 7 sigma.
    """
    std = (0.5 * log_var.double()).exp()
    places = [(level - mean.double()) / std for level in levels.double().unbind()]
    expected = torch.zeros_like(std)
    for below in range(len(places) + 1):
        low, high = torch.full_like(std, -_HALF_WIDTH), torch.full_like(std, _HALF_WIDTH)
        if below:
            low = torch.maximum(low, places[below - 1])
        if below < len(places):
            high = torch.minimum(high, places[below])
        expected = expected + _between(places, low, high, below)
    return (_CONSTANT + math.log(len(places)) - expected).to(mean)


def _between(places: Sequence[Tensor], low: Tensor, high: Tensor, below: int) -> Tensor:
    r""":math:`\int_{low}^{high} N(t|0, 1)\log\sum_k 1/|t - places_k|\,dt` with no level inside.

    ``below`` of the levels are at most ``low``, the others at least ``high``. 0 where ``low >= high``.
    """
    there = low < high
    start = torch.where(there, low, 0.0).unsqueeze(-1)
    width = torch.where(there, high - low, 1.0).unsqueeze(-1)
    from_low, from_high, slope = (t.to(low) for t in _nodes())
    left, right = width * from_low, width * from_high  # distances from the two ends
    total = torch.zeros_like(left)
    for k, place in enumerate(places):
        gap = torch.where(there, low - place if k < below else place - high, 1.0).unsqueeze(-1)
        total = total + 1.0 / (gap + (left if k < below else right))
    density = (-0.5 * (start + left).square()).exp() / math.sqrt(2 * math.pi)
    integral: Tensor = (density * total.log() * slope).sum(-1) * width.squeeze(-1)
    return torch.where(there, integral, 0.0)


@functools.cache
def _nodes() -> tuple[Tensor, Tensor, Tensor]:
    """Of the rule on [0, 1]: distances from 0, distances from 1, and weights; float64."""
    t = torch.arange(-_LAST, _LAST + 1, dtype=torch.float64) * _STEP
    steep = math.pi * torch.sinh(t)
    left, right = torch.sigmoid(steep), torch.sigmoid(-steep)
    return left, right, _STEP * math.pi * torch.cosh(t) * left * right
