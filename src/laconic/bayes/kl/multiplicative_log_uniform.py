"""KL of multiplicative noise to the log-uniform prior: a function of the dropout rates alone."""

from __future__ import annotations

from torch import Tensor

from laconic.bayes.kl.dispatch import register_kl
from laconic.bayes.kl.gaussian_log_uniform import of_log_alpha
from laconic.bayes.posteriors.multiplicative import Multiplicative
from laconic.bayes.priors.log_uniform import LogUniform


@register_kl(Multiplicative, LogUniform)
def multiplicative_log_uniform(q: Multiplicative, p: LogUniform) -> Tensor:
    """By rate: the KL of one weight times the number of weights that share the rate, up to a constant.

    Source: Molchanov et al. 2017, eq. 14 (with ``exact`` the series), on the alpha of Kingma et al. 2015.
    """
    return of_log_alpha(q.log_alpha, p) * (q.mean.numel() / q.log_alpha.numel())
