r"""KL of a Gaussian posterior to a mixture of Gaussians: an upper bound in closed form, or the integral.

**The bound.** :math:`E_q\log\sum_j \pi_j N(w|\mu_j, s_j^2)` has no closed form. For any responsibilities
:math:`r_j \ge 0` with :math:`\sum_j r_j = 1` Jensen's inequality gives

.. math:: \log\sum_j \pi_j N_j(w) \ge \sum_j r_j \log\frac{\pi_j N_j(w)}{r_j}, \qquad
          KL(q\|p) \le \sum_j r_j\left[\log\frac{r_j}{\pi_j} + KL(q\|N_j)\right].

The right side is least at :math:`r_j \propto \pi_j e^{-KL(q\|N_j)}`, where it is

.. math:: KL(q\|p) \le -\log\sum_j \pi_j e^{-KL(q\|N_j)}
          = -\tfrac12(1 + \log 2\pi\sigma^2)
            - \log\sum_j \frac{\pi_j}{s_j\sqrt{2\pi}}
              \exp\left(-\frac{(\theta - \mu_j)^2 + \sigma^2}{2 s_j^2}\right)

(the variational bound of Hershey & Olsen 2007, eq. 18-20, for one Gaussian against a mixture). It keeps the
evidence bound a bound, costs one pass over the components, and is exact for one component and in the limit
of a narrow posterior. Against the integral, on 17 components 0.04 apart and 0.02 wide of which zero has 0.99,
it is at most 0.12 nats too high for sigma <= 0.005, and 1.3 at sigma = 0.02. It is loose where a posterior is
wider than the gaps between components: one component must then account for all of it.

**The integral** (``exact``) of :math:`\log p` under q by Simpson's rule over eight standard deviations on
each side of the mean, in two pieces that meet at zero, 257 nodes each.

Jensen's inequality the other way, :math:`E_q\log p \le \log E_q p`, bounds the KL from below by
:math:`-\tfrac12(1 + \log 2\pi\sigma^2) - \log\sum_j \pi_j N(\theta|\mu_j, s_j^2 + \sigma^2)`; tests hold the
integral between the two.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from laconic.bayes.kl.dispatch import register_kl
from laconic.bayes.kl.mixture_sweep import Mixture, mixture_by_weight, mixture_total
from laconic.bayes.posteriors.gaussian import Gaussian
from laconic.bayes.priors.gaussian_mixture import GaussianMixture

PIECE = 1 << 9
"""Weights that are integrated at a time: each needs components * nodes numbers of memory."""
_HALF_WIDTH, _NODES = 8.0, 257


def gaussian_mixture_total(q: Gaussian, p: GaussianMixture) -> Tensor:
    """The sum over all weights, in less memory and time."""
    if p.exact:
        return gaussian_gaussian_mixture(q, p).sum()
    return negative_entropy(q).sum() + mixture_total(q.mean, q.log_var, Mixture(*p.terms(q.mean)))


@register_kl(Gaussian, GaussianMixture, total=gaussian_mixture_total)
def gaussian_gaussian_mixture(q: Gaussian, p: GaussianMixture) -> Tensor:
    """By weight: the upper bound, or the integral where the prior is ``exact``; differentiable in all."""
    if p.exact:
        return negative_entropy(q) - expectation(q, p.log_density)
    return negative_entropy(q) + mixture_by_weight(q.mean, q.log_var, Mixture(*p.terms(q.mean)))


def negative_entropy(q: Gaussian) -> Tensor:
    r""":math:`E_q\log q = -\tfrac12(1 + \log 2\pi\sigma^2)` by weight."""
    return -0.5 * (q.log_var + (1.0 + math.log(2 * math.pi)))


def expectation(q: Gaussian, function: Callable[[Tensor], Tensor]) -> Tensor:
    r""":math:`E_q f(w)` by weight, by Simpson's rule; differentiable.

    Args:
        q: The posterior.
        function: Takes weights (pieces, nodes) and returns numbers of that shape; smooth but at zero.

    Returns:
        Of the weights' shape and type; computed in float64.

    >>> q = Gaussian(torch.tensor([0.5]), torch.tensor([0.0]))
    >>> round(expectation(q, torch.square).item(), 6)  # mean squared plus variance
    1.25
    """
    means, stds = (torch.split(t.reshape(-1).double(), PIECE) for t in (q.mean, q.std))
    run = functools.partial(checkpoint, _piece, use_reentrant=False, preserve_rng_state=False)
    found = [
        run(m, s, function) for m, s in zip(means, stds, strict=True)
    ]  # backward computes the nodes again
    return torch.cat(found).view(q.mean.shape).to(q.mean)


def _piece(mean: Tensor, std: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    zero = (-mean / std).clamp(-_HALF_WIDTH, _HALF_WIDTH).unsqueeze(1)  # w = 0 in deviations from the mean
    share = torch.linspace(0, 1, _NODES, dtype=mean.dtype, device=mean.device)
    simpson = torch.ones_like(share)
    simpson[1:-1:2], simpson[2:-1:2] = 4.0, 2.0
    total = torch.zeros_like(mean)
    for low, width in (
        (zero, _HALF_WIDTH - zero),
        (-_HALF_WIDTH * torch.ones_like(zero), zero + _HALF_WIDTH),
    ):
        nodes = low + width * share
        density = (-0.5 * nodes.square()).exp() / math.sqrt(2 * math.pi)
        values = function(mean.unsqueeze(1) + std.unsqueeze(1) * nodes) * density * width
        total = total + values @ (simpson / (3 * (_NODES - 1)))
    return total
