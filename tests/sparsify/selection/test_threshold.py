from __future__ import annotations

import math

import numpy as np
import pytest

from laconic.errors import InputError
from laconic.records import WeightStats
from laconic.sparsify.selection.threshold import keep_below, log_alpha


def _stats(mean: list[float], variance: list[float]) -> WeightStats:
    return WeightStats("fc.weight", np.asarray(mean, np.float32), np.asarray(variance, np.float32))


def test_log_alpha_is_the_log_of_variance_over_squared_mean() -> None:
    stats = _stats([0.5, -0.01, 3.0], [0.1, 0.2, 1e-6])
    wanted = [math.log(v / m**2) for m, v in ((0.5, 0.1), (-0.01, 0.2), (3.0, 1e-6))]
    assert log_alpha(stats) == pytest.approx(wanted, rel=2e-5)  # the epsilon beside 0.01 squared


def test_a_mean_of_zero_goes_and_a_variance_of_zero_stays() -> None:
    stats = _stats([0.0, 1.0], [1e-4, 0.0])
    assert np.isfinite(log_alpha(stats)).all()
    assert keep_below(stats, 3.0).tolist() == [False, True]


@pytest.mark.parametrize("threshold", [-2.0, 0.0, 3.0])
def test_the_threshold_cuts_where_the_dropout_rate_says(threshold: float) -> None:
    generator = np.random.default_rng(0)
    mean, variance = generator.normal(size=200), np.exp(generator.normal(size=200))
    alpha = variance / mean**2
    keep = keep_below(_stats(mean.tolist(), variance.tolist()), threshold)
    sure = np.abs(np.log(alpha) - threshold) > 1e-4
    assert np.array_equal(keep[sure], (alpha < math.exp(threshold))[sure])


@pytest.mark.parametrize("threshold", [float("nan"), float("inf")])
def test_a_threshold_that_is_no_number_is_refused(threshold: float) -> None:
    with pytest.raises(InputError, match=r"the log-alpha threshold must be finite .*, got"):
        keep_below(_stats([1.0], [1.0]), threshold)
