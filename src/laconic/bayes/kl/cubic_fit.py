r"""The polynomial of Kingma, Salimans & Welling 2015 (appendix C) for the KL to a log-uniform prior.

.. math:: KL = C - \tfrac12\log\alpha - c_1\alpha - c_2\alpha^2 - c_3\alpha^3, \qquad \alpha \le 1.

C is known up to the prior's constant. With :math:`C = \tfrac12(\gamma + \log 2)` the polynomial has the exact
value (:mod:`laconic.bayes.kl.gaussian_log_uniform`) as :math:`\alpha \to 0`, and is at most 0.041 below it.
"""

from __future__ import annotations

import math

from torch import Tensor

C1, C2, C3 = 1.16145124, -1.50204118, 0.58629921
_CONSTANT = 0.5 * (0.5772156649015329 + math.log(2.0))


def cubic(log_alpha: Tensor) -> Tensor:
    """The polynomial, nats, elementwise and differentiable; flat above a log alpha of 0, where it ends.

    >>> import torch
    >>> round(cubic(torch.tensor(0.0)).item(), 4), round(cubic(torch.tensor(5.0)).item(), 4)
    (0.3895, 0.3895)
    """
    bounded = log_alpha.clamp(max=0.0)
    alpha = bounded.exp()
    return _CONSTANT - 0.5 * bounded - alpha * (C1 + alpha * (C2 + alpha * C3))
