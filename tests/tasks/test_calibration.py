"""Calibration error and flips, against loops and probabilities that are known."""

from __future__ import annotations

import numpy as np
import pytest

from laconic.errors import DataError, InputError
from laconic.tasks.calibration import Flips, confidence_and_answer, expected_calibration_error


def test_confidence_is_the_softmax_of_the_answer() -> None:
    z = np.random.default_rng(0).normal(0, 3, (50, 4))
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    confidence, answer = confidence_and_answer(z)
    assert np.allclose(confidence, p.max(1)) and np.array_equal(answer, p.argmax(1))
    assert confidence_and_answer(np.array([[1e4, 0.0]]))[0].tolist() == [1.0]  # no overflow


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_the_error_is_the_loop_over_the_bins(bins: int) -> None:
    rng = np.random.default_rng(1)
    confidence, right = rng.uniform(0, 1, 500), rng.random(500) < 0.7
    total = 0.0
    for b in range(bins):
        inside = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(confidence, right, bins) == pytest.approx(100 * total)


def test_calibrated_answers_have_next_to_no_error_and_overconfident_ones_their_excess() -> None:
    """20 000 draws: a bin's accuracy has a standard error below 1.4 %, their mean distance is below 2 %."""
    rng = np.random.default_rng(2)
    confidence = rng.uniform(0.1, 1, 20_000)
    assert expected_calibration_error(confidence, rng.random(20_000) < confidence) < 2.0
    sure = np.full(20_000, 0.95)
    assert expected_calibration_error(sure, rng.random(20_000) < 0.8) == pytest.approx(15.0, abs=1.7)


def test_zero_and_one_lie_in_the_outer_bins() -> None:
    assert expected_calibration_error(np.array([0.0, 1.0]), np.array([False, True])) == 0.0


def test_flips_are_counted_both_ways() -> None:
    truth = np.array([0, 0, 0, 1, 1])
    found = Flips.between(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 0]), truth)
    assert found == Flips(right_to_wrong=1, wrong_to_right=1, changed=3)


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(InputError, match="0 bins"):
        expected_calibration_error(np.ones(2), np.ones(2, bool), 0)
    with pytest.raises(InputError, match=r"confidences \(2,\), answers \(3,\)"):
        expected_calibration_error(np.ones(2), np.ones(3, bool))
    with pytest.raises(DataError, match="no example"):
        expected_calibration_error(np.ones(0), np.ones(0, bool))
