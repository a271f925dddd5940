r"""Molchanov's fit of the KL to a log-uniform prior, with its slope, in few passes over memory.

.. math:: F(\log\alpha) = k_1 - k_1 S(k_2 + k_3\log\alpha) + \tfrac12\log(1 + 1/\alpha)

(Molchanov et al. 2017, eq. 14, with the sign of a KL and the constant that makes it 0 at alpha = infinity.)
"""

from __future__ import annotations

import torch
from torch import Tensor

K1, K2, K3 = 0.63576, 1.87320, 1.48695


def fit(log_alpha: Tensor) -> Tensor:
    """The fit as a plain differentiable expression, nats."""
    return K1 * torch.sigmoid(-(K2 + K3 * log_alpha)) + 0.5 * torch.nn.functional.softplus(-log_alpha)


def fit_and_slope(square: Tensor, log_var: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    r"""F and :math:`dF/d\log\alpha` from (theta^2 + eps), log sigma^2 and sigma^2; both fresh.

    Writing :math:`\log(1 + 1/\alpha) = \log(\theta^2 + \sigma^2) - \log\sigma^2` saves an exponential, and
    :math:`1/(1 + \alpha) = \theta^2/(\theta^2 + \sigma^2)` another.
    """
    total = square + variance
    slope = torch.log(square).sub_(log_var).mul_(K3).sub_(K2).sigmoid_()  # 1 - S(k2 + k3 log alpha)
    value = torch.log(total).sub_(log_var).mul_(0.5).add_(slope, alpha=K1)
    # -k1 k3 S (1 - S) - 1/2 * theta^2 / (theta^2 + sigma^2)
    slope = slope.square().sub_(slope).mul_(K1 * K3)
    slope.addcdiv_(square, total, value=-0.5)
    return value, slope
