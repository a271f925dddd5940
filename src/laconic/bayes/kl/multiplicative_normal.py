"""KL of multiplicative noise to a normal prior: that of the Gaussian with the same moments."""

from __future__ import annotations

from torch import Tensor

from laconic.bayes.kl.dispatch import register_kl
from laconic.bayes.kl.gaussian_normal import gaussian_normal
from laconic.bayes.posteriors.multiplicative import Multiplicative
from laconic.bayes.priors.normal import Normal


@register_kl(Multiplicative, Normal)
def multiplicative_normal(q: Multiplicative, p: Normal) -> Tensor:
    r"""The closed form by weight, with :math:`\log\sigma^2 = \log\alpha + \log(\theta^2 + 10^{-8})`."""
    return gaussian_normal(q.as_gaussian(), p)
