r"""KL of a pair of log-normals to a half-Cauchy prior that is taken apart: the closed form.

For :math:`x \sim LN(\mu, \sigma^2)` the entropy is :math:`\mu + \frac12\log(2\pi e\sigma^2)`, and
:math:`E[x^{\pm1}] = e^{\pm\mu + \sigma^2/2}`. Against :math:`Gamma(\frac12, k^2)`, whose log density is
:math:`-\frac12\log x - x/k^2 - \frac12\log\pi - \log k`,

.. math:: KL_a = e^{\mu + \sigma^2/2}/k^2 + \log k - \tfrac12(\mu + \log\sigma^2 + 1 + \log 2)

and against :math:`InverseGamma(\frac12, 1)`, with :math:`-\frac32\log x - 1/x - \frac12\log\pi`,

.. math:: KL_b = e^{-\mu + \sigma^2/2} - \tfrac12(-\mu + \log\sigma^2 + 1 + \log 2)

(Louizos, Ullrich & Welling 2017, appendix). The sum is the KL of the pair, and no less than that of
:math:`\sqrt{ab}` to the half-Cauchy density itself.
"""

from __future__ import annotations

import math

from torch import Tensor

from laconic.bayes.kl.dispatch import register_kl
from laconic.bayes.posteriors.log_normal_pair import LogNormalPair
from laconic.bayes.priors.half_cauchy import HalfCauchy


@register_kl(LogNormalPair, HalfCauchy)
def log_normal_pair_half_cauchy(q: LogNormalPair, p: HalfCauchy) -> Tensor:
    """The KLs of both factors, by scale."""
    log_k, constant = math.log(p.scale), 0.5 * (1.0 + math.log(2.0))
    gamma = (q.a_mean + 0.5 * q.a_log_var.exp() - 2.0 * log_k).exp() + log_k
    inverse = (0.5 * q.b_log_var.exp() - q.b_mean).exp()
    entropies = 0.5 * (q.a_mean - q.b_mean + q.a_log_var + q.b_log_var)
    return gamma + inverse - entropies - 2.0 * constant
