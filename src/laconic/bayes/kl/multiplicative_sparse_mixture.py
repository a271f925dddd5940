"""KL of multiplicative noise to a sparse mixture: that of the Gaussian with the same moments."""

from __future__ import annotations

from torch import Tensor

from laconic.bayes.kl.dispatch import register_kl
from laconic.bayes.kl.gaussian_sparse_mixture import gaussian_sparse_mixture, sparse_mixture_total
from laconic.bayes.posteriors.multiplicative import Multiplicative
from laconic.bayes.priors.sparse_mixture import SparseMixture


def multiplicative_sparse_total(q: Multiplicative, p: SparseMixture) -> Tensor:
    """The sum over all weights, in less memory and time."""
    return sparse_mixture_total(q.as_gaussian(), p)


@register_kl(Multiplicative, SparseMixture, total=multiplicative_sparse_total)
def multiplicative_sparse_mixture(q: Multiplicative, p: SparseMixture) -> Tensor:
    r"""By weight, with :math:`\log\sigma^2 = \log\alpha + \log(\theta^2 + 10^{-8})`."""
    return gaussian_sparse_mixture(q.as_gaussian(), p)
