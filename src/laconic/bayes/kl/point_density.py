"""Minus the log density of a prior at point weights: the penalty of maximum a posteriori estimation."""

from __future__ import annotations

from torch import Tensor

from laconic.bayes.kl.dispatch import register_kl
from laconic.bayes.posteriors.point import Point
from laconic.bayes.priors.density import DensityPrior, checked_density


@register_kl(Point, DensityPrior)
def point_density(q: Point, p: DensityPrior) -> Tensor:
    r""":math:`-\log p(\theta)` by weight: weight decay under a normal prior, an L1 penalty under a Laplace.

    That is the KL without the negative entropy of a point, which is an infinite constant.
    """
    return -checked_density(p, q.mean)
