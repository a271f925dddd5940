"""Minus the log density of a Gaussian mixture at point weights: what soft weight-sharing minimises."""

from __future__ import annotations

from torch import Tensor

from laconic.bayes.kl.dispatch import register_kl
from laconic.bayes.kl.mixture_sweep import Mixture, mixture_by_weight, mixture_total
from laconic.bayes.posteriors.point import Point
from laconic.bayes.priors.gaussian_mixture import GaussianMixture


def point_total(q: Point, p: GaussianMixture) -> Tensor:
    """The sum over all weights, in less memory and time."""
    return mixture_total(q.mean, None, Mixture(*p.terms(q.mean)))


@register_kl(Point, GaussianMixture, total=point_total)
def point_gaussian_mixture(q: Point, p: GaussianMixture) -> Tensor:
    r""":math:`-\log\sum_j \pi_j N(\theta|\mu_j, s_j^2)` by weight (Ullrich et al. 2017, eq. 6-7).

    That is the KL without the negative entropy of a point, which is an infinite constant. Differentiable in
    the weights and in what is learned of the prior.
    """
    return mixture_by_weight(q.mean, None, Mixture(*p.terms(q.mean)))
