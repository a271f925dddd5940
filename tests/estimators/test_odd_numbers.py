"""Inputs and targets far from zero, very small or very large, and settings that are no numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from laconic.errors import InputError
from laconic.estimators import RelevanceVectorClassifier, RelevanceVectorRegressor

OFFSETS = [0.0, 1e6, 1e8, 1e9]


def curve() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs that stay exact under the offsets, targets, and further inputs."""
    x = np.round(np.linspace(-10, 10, 100) * 2**16)[:, None] / 2**16
    y = np.sinc(x[:, 0] / np.pi) + 0.1 * np.random.default_rng(0).standard_normal(100)
    return x, y, x[::3] + 0.25


@pytest.mark.parametrize("offset", OFFSETS)
def test_a_common_offset_of_the_inputs_changes_no_prediction(offset: float) -> None:
    x, y, new = curve()
    plain = RelevanceVectorRegressor().fit(x, y).predict(new)
    moved = RelevanceVectorRegressor().fit(x + offset, y).predict(new + offset)
    np.testing.assert_allclose(moved, plain, atol=1e-9)
    chances = RelevanceVectorClassifier().fit(x, y > 0.2).predict_proba(new)
    np.testing.assert_allclose(
        RelevanceVectorClassifier().fit(x + offset, y > 0.2).predict_proba(new + offset), chances, atol=1e-9
    )


def test_two_distant_groups_keep_the_distances_within_each() -> None:
    """No single centre is near to both: distances are then sums of squared differences."""
    x, y, new = curve()
    both, twice = np.vstack([x, x + 2.0**30]), np.concatenate([y, y])
    machine = RelevanceVectorRegressor(gamma=0.1).fit(both, twice)
    np.testing.assert_allclose(machine.predict(new), machine.predict(new + 2.0**30), atol=0.02)
    assert np.sqrt(np.mean((machine.predict(new) - np.sinc(new[:, 0] / np.pi)) ** 2)) < 0.05


@pytest.mark.parametrize("kernel", ["linear", "features"])
def test_basis_functions_that_are_nearly_constant_are_told(kernel: str) -> None:
    x, y, _ = curve()
    with pytest.warns(UserWarning, match=r"basis functions are constant to 6e-06 %.*Cure: subtract the mean"):
        RelevanceVectorRegressor(kernel).fit(x + 1e8, y)


@pytest.mark.parametrize("offset", [1e7, 1e9, 1e12, -1e12])
def test_targets_far_from_zero_are_fitted_about_their_mean(offset: float) -> None:
    x, y, new = curve()
    machine = RelevanceVectorRegressor().fit(x, y + offset)
    mean, std = machine.predict(new, return_std=True)
    plain = RelevanceVectorRegressor().fit(x, y - y.mean())
    np.testing.assert_allclose(mean - offset, plain.predict(new) + y.mean(), atol=2e-3)
    np.testing.assert_allclose(std, plain.predict(new, return_std=True)[1], rtol=1e-2)
    assert machine.intercept_ == pytest.approx(plain.intercept_ + y.mean() + offset, abs=2e-3)


def test_equal_targets_are_met_to_the_last_digit() -> None:
    x, _, new = curve()
    assert set(RelevanceVectorRegressor().fit(x, np.full(100, 1e17)).predict(new)) == {1e17}


@pytest.mark.parametrize("factor", [1e-140, 1e140])
def test_small_and_large_units_are_held(factor: float) -> None:
    x, y, new = curve()
    plain = RelevanceVectorRegressor().fit(x, y).predict(new)
    np.testing.assert_allclose(
        RelevanceVectorRegressor().fit(factor * x, y).predict(factor * new), plain, atol=1e-6
    )
    np.testing.assert_allclose(
        RelevanceVectorRegressor().fit(x, factor * y).predict(new) / factor, plain, atol=1e-6
    )


def test_tiny_features_are_no_zeros() -> None:
    x, y, new = curve()
    plain = RelevanceVectorRegressor("features").fit(x, x[:, 0] + y).predict(new)
    tiny = RelevanceVectorRegressor("features").fit(1e-200 * x, x[:, 0] + y).predict(1e-200 * new)
    np.testing.assert_allclose(tiny, plain, atol=1e-9)


@pytest.mark.parametrize(
    "kernel, inputs, targets, told",
    [
        ("rbf", 1e-200, 1.0, "gamma='scale': X varies by 1e-199.*Cure: divide X by 1e-199"),
        ("poly", 1e-200, 1.0, "gamma='scale': X varies by 1e-199.*Cure: divide X by"),
        ("rbf", 1e200, 1.0, r"gamma='scale': X varies by 1e\+201.*Cure: divide X by"),
        ("linear", 1e-200, 1.0, "X reaches 1e-199 only.*Cure: divide X by"),
        ("rbf", 1.0, 1e-200, "y varies by 1.5.*e-200.*Cure: divide y by"),
        ("rbf", 1.0, 1e160, "y reaches 1.*Cure: divide y by"),
    ],
)
def test_numbers_without_a_square_are_refused(kernel: str, inputs: float, targets: float, told: str) -> None:
    x, y, _ = curve()
    with pytest.raises(InputError, match=told):
        RelevanceVectorRegressor(kernel).fit(inputs * x, targets * y)


def test_targets_that_floats_do_not_hold_are_refused() -> None:
    x, y, _ = curve()
    with pytest.raises(InputError, match=r"y varies by 2 about 1e\+16, .* apart. Cure: subtract 1e\+16"):
        RelevanceVectorRegressor().fit(x, y + 1e16)
    with pytest.raises(InputError, match="fit_intercept=False has no constant.*Cure: fit_intercept=True"):
        RelevanceVectorRegressor(fit_intercept=False).fit(x, y + 1e12)


@pytest.mark.parametrize(
    "name, value",
    [
        ("noise_std", 1e-200),
        ("noise_std", True),
        ("gamma", np.array([1, 2])),
        ("gamma", True),
        ("coef0", math.nan),
        ("coef0", "a"),
        ("degree", True),
        ("fit_intercept", "no"),
        ("algorithm", np.array([1, 2])),
        ("kernel", np.array([1, 2])),
    ],
)
def test_a_setting_that_is_no_number_is_named(name: str, value: Any) -> None:
    x, y, _ = curve()
    with pytest.raises(InputError, match=rf"^{name}.*Cure: "):
        RelevanceVectorRegressor(**{name: value}).fit(x, y)


def test_moderated_is_true_or_false() -> None:
    x, y, _ = curve()
    with pytest.raises(InputError, match="moderated must be True or False, got 'no'"):
        RelevanceVectorClassifier(moderated="no").fit(x, y > 0.2)  # type: ignore[arg-type]
