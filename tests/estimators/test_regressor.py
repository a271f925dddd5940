"""The regressor: Tipping's curves, predictions by definition, other bases, bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics.pairwise import rbf_kernel

from laconic.errors import InputError
from laconic.estimators import RelevanceVectorRegressor, linear_spline


def sinc(seed: int, noise: float = 0.1, count: int = 100) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = np.linspace(-10, 10, count)[:, None]
    curve = np.sinc(x[:, 0] / np.pi)
    return x, curve + noise * rng.standard_normal(count), curve


@pytest.mark.parametrize("algorithm", ["fast", "reestimate"])
def test_sinc_without_noise_takes_the_papers_nine_vectors(algorithm: str) -> None:
    """Tipping 2001, section 4.1: 9 vectors and an error of 0.0070 at most, with the noise held at 0.01."""
    x, y, _ = sinc(0, noise=0.0)
    machine = RelevanceVectorRegressor("linear_spline", noise_std=0.01, algorithm=algorithm).fit(x, y)
    assert 8 <= machine.n_relevant_ <= 10
    assert np.abs(machine.predict(x) - y).max() < 0.015


def test_noisy_sinc_is_sparse_and_its_noise_is_found() -> None:
    x, y, curve = sinc(0)
    machine = RelevanceVectorRegressor(gamma=1 / 9).fit(x, y)
    assert machine.n_relevant_ <= 10
    assert machine.noise_std_ == pytest.approx(0.1, rel=0.2)
    assert np.sqrt(np.mean((machine.predict(x) - curve) ** 2)) < 0.05


def test_the_predictive_distribution_is_that_of_the_definition() -> None:
    x, y, _ = sinc(1)
    machine = RelevanceVectorRegressor(gamma=0.1).fit(x, y)
    one = machine.machines_[0]
    basis = np.hstack([rbf_kernel(x, x, gamma=0.1), np.ones((100, 1))])[:, one.columns]
    cov = np.linalg.inv(basis.T @ basis / machine.noise_std_**2 + np.diag(one.alpha))
    mean, std = machine.predict(x[::7] + 0.05, return_std=True)
    new = np.hstack([rbf_kernel(x[::7] + 0.05, x, gamma=0.1), np.ones((15, 1))])[:, one.columns]
    np.testing.assert_allclose(mean, new @ cov @ basis.T @ y / machine.noise_std_**2, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(
        std**2, machine.noise_std_**2 + np.einsum("ni,ij,nj->n", new, cov, new), rtol=1e-6
    )
    by_hand = rbf_kernel(x[::7] + 0.05, machine.relevance_vectors_, gamma=0.1) @ machine.coef_
    np.testing.assert_allclose(mean, by_hand + machine.intercept_, rtol=1e-9)


def test_units_of_the_targets_do_not_matter() -> None:
    x, y, _ = sinc(2)
    plain, scaled = (RelevanceVectorRegressor().fit(x, factor * y) for factor in (1.0, 1e4))
    np.testing.assert_array_equal(plain.relevance_, scaled.relevance_)
    np.testing.assert_allclose(1e4 * plain.predict(x), scaled.predict(x), rtol=1e-6, atol=0.01)
    assert scaled.log_evidence_ == pytest.approx(plain.log_evidence_ - 100 * np.log(1e4))


def test_a_function_and_a_precomputed_matrix_give_what_the_name_gives() -> None:
    x, y, _ = sinc(3, count=60)
    named = RelevanceVectorRegressor(gamma=0.1).fit(x, y)
    function = RelevanceVectorRegressor(lambda a, b: rbf_kernel(a, b, gamma=0.1)).fit(x, y)
    whole = RelevanceVectorRegressor("precomputed").fit(rbf_kernel(x, gamma=0.1), y)
    at = x[:5] + 0.1
    np.testing.assert_allclose(named.predict(at), function.predict(at))
    np.testing.assert_allclose(named.predict(at), whole.predict(rbf_kernel(at, x, gamma=0.1)))
    spline = RelevanceVectorRegressor(linear_spline).fit(x, y)
    named = RelevanceVectorRegressor("linear_spline").fit(x, y)
    np.testing.assert_allclose(spline.predict(at), named.predict(at))


@pytest.mark.parametrize("kernel", ["linear", "poly"])
def test_a_polynomial_is_learned(kernel: str) -> None:
    x = np.random.default_rng(0).normal(size=(60, 2))
    y = 1 + 2 * x[:, 0] - x[:, 1] + (0 if kernel == "linear" else x[:, 0] * x[:, 1] ** 2)
    assert RelevanceVectorRegressor(kernel).fit(x, y).score(x, y) > 0.999


def test_features_are_chosen_among_columns() -> None:
    """Sparse Bayesian learning without a kernel: three of 40 columns carry the signal, from 80 examples."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 40))
    y = x[:, [3, 17, 31]] @ [2.0, -1.0, 1.5] + 0.05 * rng.standard_normal(80)
    machine = RelevanceVectorRegressor("features").fit(x, y)
    assert {3, 17, 31} <= set(machine.relevance_) and machine.n_relevant_ < 20
    assert machine.predict(x).shape == (80,)


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_equal_targets_are_predicted(value: float) -> None:
    machine = RelevanceVectorRegressor().fit(np.arange(10.0)[:, None], np.full(10, value))
    np.testing.assert_allclose(machine.predict([[3.3]]), value, atol=1e-3)


def test_a_fit_that_takes_too_much_is_refused_before_it_is_begun() -> None:
    x, y, _ = sinc(0)
    with pytest.raises(
        InputError, match=r"101 basis functions at 100 training points take .*Cure: max_bytes"
    ):
        RelevanceVectorRegressor(max_bytes=100_000).fit(x, y)
    with pytest.raises(InputError, match="a model with 101 relevance vectors of 101 candidates"):
        RelevanceVectorRegressor(algorithm="reestimate", max_bytes=300_000).fit(x, y)


def test_a_fit_whose_relevance_vectors_outgrow_the_memory_is_refused_on_its_way() -> None:
    x = np.arange(200.0)[:, None]
    y = np.random.default_rng(0).standard_normal(200)
    narrow = RelevanceVectorRegressor(gamma=10.0, noise_std=0.01, max_bytes=700_000)  # a vector at each point
    with pytest.raises(InputError, match=r"a model with \d+ relevance vectors of 201 candidates takes"):
        narrow.fit(x, y)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"kernel": "gauss"}, "kernel must be one of"),
        ({"gamma": -1.0}, "gamma must be"),
        ({"algorithm": "quick"}, "algorithm must be one of"),
        ({"max_iter": 0}, "max_iter must be"),
        ({"tol": 0.0}, "tol must be"),
        ({"noise_std": 0.0}, "noise_std must be"),
        ({"kernel": lambda a, b: a}, "gave the shape"),
        ({"kernel": lambda a, b: np.full((len(a), len(b)), np.nan)}, "a NaN or an infinity"),
        ({"kernel": "precomputed"}, "needs a square matrix"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], told: str) -> None:
    x, y, _ = sinc(0, count=10)
    with pytest.raises(InputError, match=told):
        RelevanceVectorRegressor(**settings).fit(x, y)


def test_targets_beyond_floats_are_refused() -> None:
    with pytest.raises(InputError, match="divide y"):
        RelevanceVectorRegressor().fit([[0.0], [1.0]], [1e300, -1e300])


def test_an_unfinished_search_is_told() -> None:
    x, y, _ = sinc(0)
    with pytest.warns(ConvergenceWarning, match="max_iter=3"):
        RelevanceVectorRegressor(max_iter=3).fit(x, y)
