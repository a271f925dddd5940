r"""KL of a Gaussian posterior to a Laplace prior: the closed form.

:math:`|w|` under :math:`N(\theta, \sigma^2)` has a folded normal distribution, whose mean is

.. math:: E|w| = \sigma\sqrt{2/\pi}\,e^{-\theta^2/2\sigma^2} + \theta\,\mathrm{erf}(\theta/\sigma\sqrt2)

(Leone, Nelson & Nottingham 1961). As :math:`\sigma \to 0` it goes to :math:`|\theta|`, the L1 penalty.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from laconic.bayes.kl.dispatch import register_kl
from laconic.bayes.kl.gaussian_gaussian_mixture import negative_entropy
from laconic.bayes.posteriors.gaussian import Gaussian
from laconic.bayes.priors.laplace import Laplace


@register_kl(Gaussian, Laplace)
def gaussian_laplace(q: Gaussian, p: Laplace) -> Tensor:
    r""":math:`-\tfrac12(1 + \log 2\pi\sigma^2) + \log 2b + E|w|/b` by weight."""
    std = q.std
    ratio = q.mean / (std * math.sqrt(2.0))
    size = std * math.sqrt(2.0 / math.pi) * torch.exp(-ratio.square()) + q.mean * torch.erf(ratio)
    return negative_entropy(q) + math.log(2 * p.scale) + size / p.scale
