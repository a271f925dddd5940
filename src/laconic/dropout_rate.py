r"""The log dropout rate of a weight: one formula with one epsilon, for training and for decisions. No torch.

A weight with mean :math:`\theta` and variance :math:`\sigma^2` has the dropout rate
:math:`\alpha = \sigma^2 / \theta^2` (Molchanov et al. 2017, eq. 12). The KL to a log-uniform prior is a
function of it, and pruning compares it with a threshold.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

EPSILON = 1e-8
r"""Added to :math:`\theta^2`: a mean of zero has a finite log alpha, and the KL's slope stays in float32."""

TINY_VARIANCE = 1e-30
"""Added to a variance whose logarithm is taken."""

Numbers = TypeVar("Numbers")


def log_alpha(square: Numbers, log_variance: Numbers) -> Numbers:
    r""":math:`\log\alpha = \log\sigma^2 - \log(\theta^2 + 10^{-8})`, elementwise.

    Args:
        square: :math:`\theta^2`: an array or a tensor, of any shape.
        log_variance: :math:`\log\sigma^2`, of the same kind and shape.

    Returns:
        The log dropout rate, of the same kind and shape.

    >>> log_alpha(np.float64([1.0, 0.0]), np.float64([-2.0, -2.0])).round(3).tolist()
    [-2.0, 16.421]
    """
    shifted: Any = square + EPSILON  # type: ignore[operator]
    log: Any = np.log(shifted) if isinstance(shifted, np.ndarray) else shifted.log()
    return log_variance - log  # type: ignore[no-any-return]
