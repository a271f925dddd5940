"""KL of noise on inputs to the log-uniform prior: that of the factors, of which each input has one."""

from __future__ import annotations

from torch import Tensor

from laconic.bayes.kl.dispatch import register_kl
from laconic.bayes.kl.gaussian_log_uniform import of_log_alpha
from laconic.bayes.posteriors.input_noise import InputNoise
from laconic.bayes.priors.log_uniform import LogUniform


@register_kl(InputNoise, LogUniform)
def input_noise_log_uniform(q: InputNoise, p: LogUniform) -> Tensor:
    r"""By rate: :math:`KL(N(1, \alpha)\,\|\,p)` of one factor times the inputs that share the rate.

    The prior is that of the factors :math:`s_j`: given :math:`\theta`, weights that share a factor have no
    density of their own. Up to a constant; for Bernoulli factors, whose rates stay, it is a constant.

    Source: Kingma et al. 2015, section 3.2 and appendix C.
    """
    return of_log_alpha(q.log_alpha, p) * (q.inputs / q.log_alpha.numel())
