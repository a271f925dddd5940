"""KL of multiplicative noise to VNQ's multi-spike prior: that of the Gaussian with the same moments."""

from __future__ import annotations

from torch import Tensor

from laconic.bayes.kl.dispatch import register_kl
from laconic.bayes.kl.gaussian_spikes import gaussian_spikes, spikes_total
from laconic.bayes.posteriors.multiplicative import Multiplicative
from laconic.bayes.priors.spikes import Spikes


def multiplicative_spikes_total(q: Multiplicative, p: Spikes) -> Tensor:
    """The sum over all weights, in less memory and time."""
    return spikes_total(q.as_gaussian(), p)


@register_kl(Multiplicative, Spikes, total=multiplicative_spikes_total)
def multiplicative_spikes(q: Multiplicative, p: Spikes) -> Tensor:
    r"""By weight, up to a constant, with :math:`\log\sigma^2 = \log\alpha + \log(\theta^2 + 10^{-8})`.

    Source: Achterhold et al. 2018, eq. 16, or the integral of its eq. 11 where the prior is ``exact``, for
    the posterior of Kingma et al. 2015. One rate may be that of many weights: here each weight has a KL of
    its own, for its distances from the levels differ.
    """
    return gaussian_spikes(q.as_gaussian(), p)
