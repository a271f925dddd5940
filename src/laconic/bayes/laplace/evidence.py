r"""Prior precision by marginal likelihood, for a Gaussian prior N(0, 1/alpha) and a Laplace approximation.

With the eigenvalues :math:`\lambda_i` of the data's Hessian, P weights w, and what the weights cost,

.. math:: \log p(D) \approx \log p(D | w) + \tfrac P2 \log\alpha - \tfrac\alpha2 \lVert w \rVert^2
          - \tfrac12 \sum_i \log(\lambda_i + \alpha),

whose maximum in alpha is MacKay's fixed point: alpha times the squared norm equals the number of weights that
the data determine,

.. math:: \alpha = \gamma / \lVert w \rVert^2, \qquad \gamma = \sum_i \frac{\lambda_i}{\lambda_i + \alpha}.

Gamma falls and alpha :math:`\lVert w \rVert^2` rises in alpha, so there is one solution. Newton's method
finds it for :math:`g(u) = \log(\alpha \lVert w \rVert^2) - \log\gamma` in :math:`u = \log\alpha`, whose slope
lies between 1 and 2.

Sources: MacKay, Bayesian Interpolation, Neural Computation 1992 (evidence and fixed point); Immer et al.,
Scalable Marginal Likelihood Estimation for Model Selection in Deep Learning, ICML 2021 (one alpha a layer).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from laconic.errors import InputError

__all__ = ["determined_weights", "occam_factor", "prior_precision"]

_STEPS = 100
_TOLERANCE = 1e-10  # of log alpha


def determined_weights(eigenvalues: Tensor, alpha: float) -> float:
    """Gamma, the number of weights that the data determine (MacKay 1992).

    Args:
        eigenvalues: Of the Hessian of the data's negative log-likelihood, >= 0, in any shape.
        alpha: Prior precision, > 0.

    Returns:
        Between 0 and their number.

    >>> determined_weights(torch.tensor([1.0, 3.0, 0.0]), 1.0)
    1.25
    """
    e = eigenvalues.double()
    return float((e / (e + alpha)).sum())


def prior_precision(eigenvalues: Tensor, squared_norm: float) -> float:
    r"""The alpha of largest marginal likelihood: :math:`\alpha \lVert w \rVert^2 = \gamma(\alpha)`.

    Args:
        eigenvalues: Of the Hessian of the data's negative log-likelihood, >= 0, in any shape.
        squared_norm: Sum of the squared weights, > 0.

    Returns:
        The precision, in 1 / squared unit of the weight.

    Raises:
        InputError: Eigenvalues that are all zero or not finite, or a squared norm that is not positive.

    >>> round(prior_precision(torch.tensor([1.0, 1.0]), 1.0), 6)  # alpha = 2 / (1 + alpha)
    1.0
    """
    e = eigenvalues.double().reshape(-1)
    if not bool(torch.isfinite(e).all()) or not bool((e > 0).any()) or bool((e < 0).any()):
        raise InputError(
            "no prior precision: the curvature must be finite, not negative, and not zero everywhere. Cure: "
            "batches that reach the weights"
        )
    if not (math.isfinite(squared_norm) and squared_norm > 0):
        raise InputError(
            f"no prior precision: the weights' squared norm is {squared_norm}. Cure: weights that are finite "
            "and not all zero"
        )
    u = math.log(e.numel() / squared_norm)  # the largest that it can be
    for _ in range(_STEPS):
        alpha = math.exp(u)
        share = e / (e + alpha)
        gamma = float(share.sum())
        g = u + math.log(squared_norm) - math.log(gamma)
        if abs(g) < _TOLERANCE:
            break
        u -= g / (2 - float(share @ share) / gamma)
    return math.exp(u)


def occam_factor(eigenvalues: Tensor, squared_norm: float, alpha: float) -> float:
    """Log evidence minus log likelihood, in nats (MacKay 1992): usually negative.

    Args:
        eigenvalues: Of the Hessian of the data's negative log-likelihood, one for each weight.
        squared_norm: Sum of the squared weights.
        alpha: Prior precision, > 0.

    Returns:
        Nats.

    >>> round(occam_factor(torch.tensor([3.0]), 2.0, 1.0), 4)  # -log(4) / 2 - 1
    -1.6931
    """
    e = eigenvalues.double()
    # log(alpha) - log(lambda + alpha), weight by weight, so that no large numbers cancel
    return float(-0.5 * torch.log1p(e / alpha).sum()) - 0.5 * alpha * squared_norm
