"""KL of multiplicative noise to a prior given by its density: that of the Gaussian with the same moments."""

from __future__ import annotations

from torch import Tensor

from laconic.bayes.kl.dispatch import kl_divergence, kl_total, register_kl
from laconic.bayes.posteriors.multiplicative import Multiplicative
from laconic.bayes.priors.density import DensityPrior


def multiplicative_density_total(q: Multiplicative, p: DensityPrior) -> Tensor:
    """The sum over all weights, by the Gaussian's own total."""
    return kl_total(q.as_gaussian(), p)


@register_kl(Multiplicative, DensityPrior, total=multiplicative_density_total)
def multiplicative_density(q: Multiplicative, p: DensityPrior) -> Tensor:
    r"""By weight, with :math:`\log\sigma^2 = \log\alpha + \log(\theta^2 + 10^{-8})`."""
    return kl_divergence(q.as_gaussian(), p)
