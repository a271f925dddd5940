"""Evidence and posterior of linear regression in closed form, and the best prior precision."""

import math

import pytest
import torch
from torch import nn

from laconic.bayes.laplace import (
    determined_weights,
    gather_curvature,
    occam_factor,
    prior_precision,
)
from laconic.errors import InputError
from laconic.tasks import Regression

NOISE, ALPHA = 0.5, 2.0


def randn(*shape, seed=2):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def regression(alpha=ALPHA):
    """A linear layer at its most probable weights, correlated inputs, targets."""
    x = randn(12, 3) @ torch.tensor([[1.0, 0.9, 0.2], [0.0, 0.5, 0.7], [0.0, 0.0, 0.3]]).double()
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]]).double() + NOISE * randn(12, 1, seed=3)
    precision = x.T @ x / NOISE**2 + alpha * torch.eye(3).double()
    layer = nn.Linear(3, 1, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.linalg.solve(precision, x.T @ y / NOISE**2).T)
    return layer, x, y, precision


def log_marginal(x, y, alpha):
    """Log N(y; 0, s^2 I + X X^T / alpha)."""
    covariance = NOISE**2 * torch.eye(len(x)).double() + x @ x.T / alpha
    return torch.distributions.MultivariateNormal(torch.zeros(len(x)).double(), covariance).log_prob(y[:, 0])


def factors_of(layer, x, y):
    found = gather_curvature(
        layer, [(x, y)], Regression(noise=NOISE), generator=torch.Generator(), factors=["weight"]
    )
    assert found.terms == len(x)
    return found.factors["weight"]


def test_linear_regression_in_closed_form():
    layer, x, y, precision = regression()
    factors = factors_of(layer, x, y)
    eigenvalues = len(x) * factors.eigenvalues
    assert torch.allclose(eigenvalues.ravel(), torch.linalg.eigvalsh(x.T @ x / NOISE**2))
    variances = factors.variances(len(x), ALPHA, layer.weight)
    assert torch.allclose(variances[0], torch.linalg.inv(precision).diagonal())
    nll = Regression(noise=NOISE).nll(layer(x), y).item()
    evidence = occam_factor(eigenvalues, layer.weight.square().sum().item(), ALPHA) - nll
    assert evidence == pytest.approx(float(log_marginal(x, y, ALPHA)), rel=1e-9)


def test_the_fixed_point_is_the_largest_evidence_of_linear_regression():
    """Alternating with the most probable weights, as MacKay does, ends at the largest exact evidence."""
    alpha = 1.0
    for _ in range(25):
        layer, x, y, _ = regression(alpha)
        eigenvalues = len(x) * factors_of(layer, x, y).eigenvalues
        alpha = prior_precision(eigenvalues, layer.weight.square().sum().item())
    best = float(log_marginal(x, y, alpha))
    for factor in (0.99, 1.01):
        assert float(log_marginal(x, y, alpha * factor)) < best


def test_the_precision_is_where_the_occam_factor_is_largest():
    eigenvalues = torch.tensor([0.0, 1e-4, 0.3, 2.0, 50.0, 1e5])
    alpha = prior_precision(eigenvalues, 3.0)
    assert alpha * 3.0 == pytest.approx(determined_weights(eigenvalues, alpha), rel=1e-9)
    best = occam_factor(eigenvalues, 3.0, alpha)
    assert all(occam_factor(eigenvalues, 3.0, alpha * f) < best for f in (0.5, 0.99, 1.01, 2.0))


def test_scaling():
    """Weights twice as large, curvatures a quarter: a quarter of the precision, the same evidence."""
    eigenvalues = torch.tensor([0.5, 2.0, 8.0])
    one, other = prior_precision(eigenvalues, 1.5), prior_precision(eigenvalues / 4, 6.0)
    assert other == pytest.approx(one / 4)
    assert occam_factor(eigenvalues / 4, 6.0, other) == pytest.approx(occam_factor(eigenvalues, 1.5, one))


def test_extremes():
    assert prior_precision(torch.full((4,), 1e30), 2.0) == pytest.approx(2.0)  # all determined: P / |w|^2
    tiny = prior_precision(torch.full((4,), 1e-3), 2e6)
    assert tiny * 2e6 == pytest.approx(determined_weights(torch.full((4,), 1e-3), tiny))
    assert math.isfinite(occam_factor(torch.tensor([1e30, 0.0]), 1.0, 1e-12))


def test_bad_input():
    for eigenvalues in ([0.0, 0.0], [float("nan"), 1.0], [-1.0, 1.0]):
        with pytest.raises(InputError, match=r"must be finite, not negative, and not zero everywhere.*Cure"):
            prior_precision(torch.tensor(eigenvalues), 1.0)
    with pytest.raises(InputError, match=r"squared norm is 0\.0"):
        prior_precision(torch.ones(2), 0.0)
