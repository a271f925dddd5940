"""Pruning by a posterior's own odds: drop a weight whose noise swamps its mean."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from laconic.errors import InputError
from laconic.records import WeightStats


def log_alpha(stats: WeightStats) -> npt.NDArray[np.float32]:
    """log(variance / mean^2), the log dropout rate of a Gaussian posterior; mean 0 gives +large.

    Source: Molchanov et al. 2017, eq. 12 (alpha = sigma^2 / theta^2).
    """
    return np.asarray(np.log(stats.variance + 1e-30) - np.log(stats.mean**2 + 1e-16), dtype=np.float32)


def check_threshold(threshold: float) -> None:
    """Raises InputError for a threshold on log alpha that is not finite."""
    if not np.isfinite(threshold):
        raise InputError(f"the log-alpha threshold must be finite (3 is usual), got {threshold}")


def keep_below(stats: WeightStats, threshold: float) -> npt.NDArray[np.bool_]:
    """Keep the weights with log alpha < threshold (3 means a dropout rate of 0.95).

    Source: Molchanov et al. 2017, section 4.1. Raises InputError for a threshold that is not finite.

    >>> import numpy as np
    >>> one = np.ones(2, np.float32)
    >>> keep_below(WeightStats("w", np.float32([1.0, 0.01]), 0.1 * one), 3.0).tolist()
    [True, False]
    """
    check_threshold(threshold)
    return np.asarray(log_alpha(stats) < threshold)
