r"""KL of a Gaussian posterior to any prior that is given by its log density: a trapezoidal rule.

.. math:: KL(q\|p) = -\tfrac12(1 + \log 2\pi\sigma^2) - E\log p(\theta + \sigma\epsilon),\quad
          \epsilon \sim N(0, 1)

The expectation is a sum over equidistant :math:`\epsilon_i` from -6 to 6, h apart, with weights in proportion
to the normal density. It is deterministic, and differentiable in the posterior and in what is learned of the
prior. For a smooth function the error falls as :math:`e^{-2\pi a/h}`, where a is the distance, in standard
deviations of the posterior, from the real axis to the nearest singularity of :math:`\log p` (Trefethen &
Weideman 2014, theorem 5.1): the density must be smooth on the scale of h standard deviations. A kink at which
the slope of :math:`\log p` jumps by J gives at most :math:`h^2\sigma J/12` times the density of
:math:`\epsilon` there, to leading order (0.005 :math:`\sigma J` for the 33 nodes of
:attr:`laconic.bayes.priors.DensityPrior.nodes`).

Gauss-Hermite quadrature of n nodes has its central nodes :math:`\pi/\sqrt n` apart, 0.55 for 33 nodes, and
for densities with a singularity near the axis needs more nodes for the same error than h = 0.375 does.

**Student's t.** :math:`-\log p` is :math:`\frac{\nu + 1}2\log((\epsilon - b)^2 + a^2)` and a constant, with
:math:`a = s\sqrt\nu/\sigma` and :math:`b = -\theta/\sigma`. The Fourier transform of that logarithm is
:math:`-2\pi e^{-a|\omega|}/|\omega|`, up to a phase. By Poisson's sum the error of the rule is that of the
transform of the integrand at all multiples of :math:`2\pi/h` but zero, of which moving the path of
integration by any :math:`c \le a` into the complex plane gives

.. math:: |error| \le (\nu + 1)\,\frac h{\sqrt{2\pi}}\,e^{c^2/2}\left[-\log(1 - e^{-2\pi c/h})\right]
          (1 + O(h^2)) + \delta,

where :math:`\delta` is what lies beyond six deviations, below 1e-6 nats for :math:`\nu \le 10`.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from laconic.bayes.kl.dispatch import register_kl
from laconic.bayes.kl.gaussian_gaussian_mixture import negative_entropy
from laconic.bayes.posteriors.gaussian import Gaussian
from laconic.bayes.priors.density import DensityPrior, checked_density
from laconic.bayes.priors.student_t import StudentT
from laconic.errors import InputError

REACH = 6.0
"""How far from the mean the nodes go, in standard deviations: all but 2e-9 of the probability."""
PIECE = 1 << 15
"""Weights that are integrated at a time: each needs ``nodes`` numbers of memory."""


@register_kl(Gaussian, DensityPrior)
def gaussian_density(q: Gaussian, p: DensityPrior) -> Tensor:
    """By weight, up to a constant for an improper prior; differentiable in all.

    Args:
        q: The posterior.
        p: The prior.

    Returns:
        Nats, of the weights' shape.

    Raises:
        InputError: ``p.nodes`` that is not an odd number of at least 3; a log density of another shape.
    """
    if p.nodes < 3 or p.nodes % 2 == 0:
        raise InputError(
            f"{type(p).__name__}.nodes must be an odd number of at least 3, got {p.nodes}. Cure: nodes = 33"
        )
    return negative_entropy(q) - _expectation(q, p)


def student_t_error(std: float, p: StudentT) -> float:
    r"""An upper bound of the rule's error for one weight, in nats, at any mean.

    Args:
        std: :math:`\sigma` of the posterior, in the weights' unit.
        p: The prior.

    Returns:
        Nats.

    >>> prior = StudentT(df=3.0, scale=0.1)
    >>> round(student_t_error(1.0, prior), 3), student_t_error(0.1, prior) < 1e-5
    (0.036, True)
    """
    step = 2 * REACH / (p.nodes - 1)
    shift = min(p.scale * math.sqrt(p.df) / std, 2 * math.pi / step)
    aliased = -math.log1p(-math.exp(-2 * math.pi * shift / step)) * math.exp(0.5 * shift**2)
    return (p.df + 1) * step / math.sqrt(2 * math.pi) * aliased * (1 + step**2 / 4) + 1e-6


def _expectation(q: Gaussian, p: DensityPrior) -> Tensor:
    r""":math:`E_q\log p(w)` by weight; the backward pass evaluates the nodes again."""
    means, stds = (torch.split(t.reshape(-1), PIECE) for t in (q.mean, q.std))
    nodes = torch.linspace(-REACH, REACH, p.nodes, dtype=torch.float64, device=q.mean.device)
    shares = torch.softmax(-0.5 * nodes.square(), 0)
    piece = functools.partial(_piece, p=p, nodes=nodes.to(q.mean), shares=shares.to(q.mean))
    run = functools.partial(checkpoint, piece, use_reentrant=False, preserve_rng_state=False)
    return torch.cat([run(m, s) for m, s in zip(means, stds, strict=True)]).view(q.mean.shape)


def _piece(mean: Tensor, std: Tensor, *, p: DensityPrior, nodes: Tensor, shares: Tensor) -> Tensor:
    weights = torch.addcmul(mean.unsqueeze(1), std.unsqueeze(1), nodes)
    return checked_density(p, weights) @ shares
