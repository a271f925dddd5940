"""Posteriors, evidence and each step of the search, against definitions that invert whole matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import multivariate_normal

from laconic.errors import InputError
from laconic.estimators.bernoulli import BernoulliTargets
from laconic.estimators.gaussian import GaussianTargets
from laconic.estimators.maximise import contribution, fast, reestimate
from laconic.estimators.state import inverse_root

LIMIT = 2**24


def design_of(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    design = np.random.default_rng(seed).standard_normal((rows, columns))
    return design / np.linalg.norm(design, axis=0)


def regression(seed: int = 0, fixed: float | None = 20.0) -> GaussianTargets:
    rng = np.random.default_rng(seed)
    design = design_of(12, 9, seed)
    targets = 3 * design[:, 1] - 2 * design[:, 4] + 0.2 * rng.standard_normal(12)
    return GaussianTargets(design, targets / targets.std(), LIMIT, fixed)


def classification(seed: int = 0) -> BernoulliTargets:
    rng = np.random.default_rng(seed)
    design = design_of(30, 9, seed)
    targets = rng.random(30) < expit(12 * design[:, 2] - 8 * design[:, 5])
    return BernoulliTargets(design, targets.astype(float), LIMIT)


def exact_evidence(data: GaussianTargets, alpha: np.ndarray, beta: float) -> float:
    """Log N(t | 0, C) with ``C = 1/beta + Phi A^-1 Phi^T``, from its definition."""
    cov = np.eye(len(data.targets)) / beta + (data.design / alpha) @ data.design.T
    return float(multivariate_normal(np.zeros(len(data.targets)), cov).logpdf(data.targets))


def test_evidence_and_posterior_of_a_regression_are_those_of_the_definition() -> None:
    data = regression()
    active, alpha = np.array([1, 4, 7]), np.array([0.3, 2.0, 50.0])
    state = data.first(active, alpha)
    whole = np.full(9, np.inf)
    whole[active] = alpha
    assert state.evidence == pytest.approx(exact_evidence(data, whole, 20.0), rel=1e-10)
    members = data.design[:, active]
    cov = np.linalg.inv(20.0 * members.T @ members + np.diag(alpha))
    np.testing.assert_allclose(state.root.T @ state.root, cov, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(state.mean, 20.0 * cov @ members.T @ data.targets, rtol=1e-9)


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_quality_and_sparsity_are_those_of_the_definition(kind: str) -> None:
    """S = phi^T C^-1 phi and Q = phi^T C^-1 z, z the targets that Laplace's approximation works with."""
    data: Any = regression() if kind == "regression" else classification()
    active, alpha = np.array([1, 4, 7]), np.array([0.3, 2.0, 50.0])
    state = data.first(active, alpha)
    members = data.design[:, active]
    latent = members @ state.mean
    chance = expit(latent)
    weight = np.full(len(latent), 20.0) if kind == "regression" else chance * (1 - chance)
    z = data.targets if kind == "regression" else latent + (data.targets - chance) / weight
    inverse = np.linalg.inv(np.diag(1 / weight) + (members / alpha) @ members.T)
    s, q = data.quality(state)
    np.testing.assert_allclose(s, np.einsum("ni,nk,ki->i", data.design, inverse, data.design), rtol=1e-7)
    np.testing.assert_allclose(q, data.design.T @ inverse @ z, rtol=1e-6, atol=1e-9)


def test_a_step_gains_what_the_formula_says() -> None:
    data = regression()
    small, large = np.array([1]), np.array([1, 4])
    before = data.first(small, np.array([0.3]))
    s, q = data.quality(before)
    after = data.state(large, np.array([0.3, 1.7]), before)
    gain = contribution(np.array([1.7]), s[4:5], q[4:5])[0]
    assert after.evidence - before.evidence == pytest.approx(gain, rel=1e-9)
    assert contribution(np.array([np.inf]), s[4:5], q[4:5])[0] == 0


@pytest.mark.parametrize("seed", range(3))
def test_no_change_of_one_precision_raises_the_evidence(seed: int) -> None:
    """Each precision in turn, over 16 decades and infinity, by the definition of the evidence."""
    data = regression(seed)
    found = fast(data, 1e-9, 5000)
    assert found.converged
    whole = np.full(9, np.inf)
    whole[found.state.active] = found.state.alpha
    best = exact_evidence(data, whole, 20.0)
    assert best == pytest.approx(found.state.evidence, rel=1e-9)
    for column in range(9):
        for alpha in [*np.logspace(-8, 8, 65), np.inf]:
            other = whole.copy()
            other[column] = alpha
            assert exact_evidence(data, other, 20.0) <= best + 1e-6


def test_noise_is_where_the_evidence_is_highest() -> None:
    data = regression(fixed=None)
    found = fast(data, 1e-9, 5000).state
    whole = np.full(9, np.inf)
    whole[found.active] = found.alpha
    near = [exact_evidence(data, whole, found.precision * factor) for factor in (0.97, 1.0, 1.03)]
    assert near[1] > max(near[0], near[2])


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_both_algorithms_find_the_same_model(kind: str) -> None:
    data: Any = regression(fixed=None) if kind == "regression" else classification()
    quick, slow = fast(data, 1e-9, 5000), reestimate(data, 1e-9, 50_000)
    assert quick.converged
    assert sorted(quick.state.active) == sorted(slow.state.active)
    assert quick.state.evidence == pytest.approx(slow.state.evidence, abs=1e-4)


def test_the_mode_of_a_classifier_has_no_slope_and_its_curvature_is_the_posteriors() -> None:
    data = classification()
    active, alpha = np.array([2, 5]), np.array([0.01, 0.5])
    state = data.first(active, alpha)

    def value(w: np.ndarray) -> float:
        logits = data.design[:, active] @ w
        return float(data.targets @ logits - np.logaddexp(0, logits).sum() - 0.5 * alpha @ w**2)

    h = 1e-4 * np.eye(2)
    slope = [(value(state.mean + e) - value(state.mean - e)) / 2e-4 for e in h]
    np.testing.assert_allclose(slope, 0, atol=1e-5)
    at = np.array([[value(state.mean + a + b) - value(state.mean + a) for a in h] for b in h])
    second = (at - np.array([[value(state.mean + b) - value(state.mean)] for b in h])) / 1e-8
    np.testing.assert_allclose(state.root.T @ state.root, np.linalg.inv(-second), rtol=2e-2)


def test_laplaces_evidence_is_near_the_integral() -> None:
    rng = np.random.default_rng(0)
    design = np.full((400, 1), 0.05)
    data = BernoulliTargets(design, (rng.random(400) < 0.7).astype(float), LIMIT)
    state = data.first(np.array([0]), np.array([0.1]))
    top = state.evidence

    def density(w: float) -> float:
        logits = design[:, 0] * w
        prior = -0.5 * 0.1 * w * w + 0.5 * np.log(0.1 / (2 * np.pi))
        return float(np.exp(data.targets @ logits - np.logaddexp(0, logits).sum() + prior - top))

    centre = float(state.mean[0])
    integral, _ = quad(density, centre - 30, centre + 30, points=[centre])
    assert np.log(integral) == pytest.approx(0.0, abs=0.01)


def test_separable_classes_have_a_finite_model() -> None:
    x = np.linspace(-1, 1, 20)[:, None]
    data = BernoulliTargets(x / np.linalg.norm(x), (x[:, 0] > 0).astype(float), LIMIT)
    found = fast(data, 1e-6, 1000)
    assert found.converged
    assert np.isfinite(found.state.evidence) and np.isfinite(found.state.mean).all()


def test_the_root_of_a_badly_scaled_matrix() -> None:
    scale = np.logspace(-8, 8, 5)
    matrix = np.outer(scale, scale) * (0.5 + 0.5 * np.eye(5))
    root, log_det = inverse_root(matrix)
    expected = np.linalg.inv(0.5 + 0.5 * np.eye(5)) / np.outer(scale, scale)
    np.testing.assert_allclose(root.T @ root, expected, rtol=1e-10)
    unit = np.linalg.slogdet(0.5 + 0.5 * np.eye(5))[1]
    assert log_det == pytest.approx(unit + 2 * np.log(scale).sum())


def test_a_singular_matrix_gets_a_jitter_and_an_indefinite_one_an_error() -> None:
    root, _ = inverse_root(np.ones((3, 3)))
    assert np.isfinite(root).all()
    with pytest.raises(InputError, match="no Cholesky factor"):
        inverse_root(np.array([[1.0, 2.0], [2.0, 1.0]]))
