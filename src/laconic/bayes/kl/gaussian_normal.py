"""KL of a Gaussian posterior to a normal prior: the closed form."""

from __future__ import annotations

import math

from torch import Tensor

from laconic.bayes.kl.dispatch import register_kl
from laconic.bayes.posteriors.gaussian import Gaussian
from laconic.bayes.priors.normal import Normal


@register_kl(Gaussian, Normal)
def gaussian_normal(q: Gaussian, p: Normal) -> Tensor:
    r""":math:`\frac12[(\sigma^2 + (\theta-\mu_0)^2)/\sigma_0^2 - 1 - \log(\sigma^2/\sigma_0^2)]`."""
    spread = (q.log_var.exp() + (q.mean - p.mean).square()) / p.std**2
    return 0.5 * (spread - 1.0 - q.log_var + 2.0 * math.log(p.std))
