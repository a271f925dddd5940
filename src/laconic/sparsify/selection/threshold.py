"""Pruning by a posterior's dropout rate: a weight whose noise exceeds its mean is removed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from laconic.dropout_rate import TINY_VARIANCE
from laconic.dropout_rate import log_alpha as _log_alpha
from laconic.errors import InputError
from laconic.records import WeightStats


def log_alpha(stats: WeightStats) -> npt.NDArray[np.float32]:
    """The log dropout rate of each weight (:func:`laconic.dropout_rate.log_alpha`), float32.

    A variance of zero gives a large negative number.

    >>> import numpy as np
    >>> log_alpha(WeightStats("w", np.float32([1.0, 0.0]), np.float32([1.0, 1.0]))).astype(int).tolist()
    [0, 18]
    """
    log_variance = np.log(stats.variance + TINY_VARIANCE)
    return np.asarray(_log_alpha(stats.mean**2, log_variance), dtype=np.float32)


def check_threshold(threshold: float) -> None:
    """Raises InputError for a threshold on log alpha that is not finite."""
    if not np.isfinite(threshold):
        raise InputError(f"the log-alpha threshold must be finite (3 is usual), got {threshold}. Cure: 3")


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
