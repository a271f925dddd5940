"""KL of multiplicative noise to a mixture of Gaussians: that of the Gaussian with the same moments."""

from __future__ import annotations

from torch import Tensor

from laconic.bayes.kl.dispatch import register_kl
from laconic.bayes.kl.gaussian_gaussian_mixture import gaussian_gaussian_mixture, gaussian_mixture_total
from laconic.bayes.posteriors.multiplicative import Multiplicative
from laconic.bayes.priors.gaussian_mixture import GaussianMixture


def multiplicative_mixture_total(q: Multiplicative, p: GaussianMixture) -> Tensor:
    """The sum over all weights, in less memory and time."""
    return gaussian_mixture_total(q.as_gaussian(), p)


@register_kl(Multiplicative, GaussianMixture, total=multiplicative_mixture_total)
def multiplicative_gaussian_mixture(q: Multiplicative, p: GaussianMixture) -> Tensor:
    r"""By weight, with :math:`\log\sigma^2 = \log\alpha + \log(\theta^2 + 10^{-8})`."""
    return gaussian_gaussian_mixture(q.as_gaussian(), p)
