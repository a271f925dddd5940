r"""The Mean-KL parametrisation of a Gaussian posterior (Lin, Flamich and Hernandez-Lobato 2023).

Under a prior :math:`N(0, \rho^2)` a Gaussian is given by its mean and its KL :math:`\kappa` in place of its
mean and its variance. The budget of a code then holds by construction, without a weight on the KL:

.. math:: \sigma^2 = -\rho^2\,W_0\!\left(-e^{d - 2\kappa - 1}\right), \qquad d = \mu^2/\rho^2 \le 2\kappa

with Lambert's W on its principal branch. The mean is :math:`\rho\sqrt{2\kappa}\tanh\tau`, so that every real
:math:`\tau` is a posterior of that KL. Source: arXiv 2307.07816, section 3.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_LEAST = 1e-8  # nats: the slope of the variance is finite where a weight's KL is all in its mean, or zero
_NEWTON = 5


def mean_kl(direction: Tensor, kl_nats: Tensor) -> tuple[Tensor, Tensor]:
    r"""Mean and standard deviation in prior standard deviations, of Gaussians with these KLs to N(0, 1).

    .. math:: m = \sqrt{2\kappa}\tanh\tau, \qquad s^2 = -W_0(-e^{m^2 - 2\kappa - 1})

    Args:
        direction: :math:`\tau`, any shape.
        kl_nats: :math:`\kappa \ge 0`, of the same shape.

    Returns:
        m and s, differentiable in both.

    >>> m, s = mean_kl(torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.5]))
    >>> kl = 0.5 * (m**2 + s**2 - 1) - s.log()
    >>> [round(k, 5) for k in kl.tolist()]
    [0.5, 0.5]
    """
    kl = kl_nats.clamp_min(_LEAST)
    turn = torch.tanh(direction)
    left = 2.0 * kl * (1.0 - turn.square())  # 2 kappa - d
    return (2.0 * kl).sqrt() * turn, (0.5 * log_variance_of(left)).exp()


def log_variance_of(left: Tensor) -> Tensor:
    r"""The :math:`u \le 0` with :math:`e^u - u - 1 = left`: :math:`u = \log(-W_0(-e^{-left - 1}))`.

    Args:
        left: Twice the KL that the mean leaves, in nats, at least 0; it is clipped to 1e-8.

    Returns:
        Log variances in the prior's unit, of the same shape.

    >>> import math
    >>> u = log_variance_of(torch.tensor([1.0])).item()
    >>> round(math.exp(u) - u - 1, 5)
    1.0
    """
    return _LogVariance.apply(left)  # type: ignore[no-any-return,no-untyped-call]


class _LogVariance(torch.autograd.Function):
    """Newton's iteration from the left of the root, where the convex function falls: it never overshoots."""

    @staticmethod
    def forward(ctx: Any, left: Tensor) -> Tensor:
        left = left.clamp_min(_LEAST)
        u = -(left + (2.0 * left).sqrt())
        for _ in range(_NEWTON):
            slope = torch.expm1(u)
            u = u - (slope - u - left) / slope
        ctx.save_for_backward(u)
        return u

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (u,) = ctx.saved_tensors
        return grad / torch.expm1(u)
