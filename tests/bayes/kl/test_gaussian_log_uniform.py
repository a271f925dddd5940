"""Oracles: Monte Carlo, the series itself, scipy's Dawson function, mpmath's integral, finite differences."""

import mpmath
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
import torch

from laconic.bayes.kl import kl_divergence
from laconic.bayes.kl.gaussian_log_uniform import of_log_alpha, twice_dawson_integral
from laconic.bayes.kl.sigmoid_fit import K1, fit
from laconic.bayes.posteriors import Gaussian
from laconic.bayes.priors import LogUniform
from laconic.errors import InputError
from tests.helpers.kl_oracles import monte_carlo_kl, posterior

LOG_ALPHAS = np.linspace(-8, 8, 33)
FIT, EXACT = LogUniform(), LogUniform(exact=True)
# KL of N(1, alpha) against density 1/|w|: exact - MC = const, known from alpha -> infinity:
# E log|w| -> log sigma + (psi(1/2) + log 2) / 2.
CONSTANT = 0.5 * np.log(2 * np.pi * np.e) - 0.5 * (scipy.special.digamma(0.5) + np.log(2))


def at(log_alpha, grad=False):
    """A posterior of mean 1 with this log alpha."""
    return posterior(np.ones_like(log_alpha), np.asarray(log_alpha), grad)


def poisson_digamma(log_alpha):
    """The published series, term by term."""
    rate = 0.5 * np.exp(-log_alpha)
    k = np.arange(0, int(rate + 12 * np.sqrt(rate) + 60))
    return 0.5 * (
        scipy.stats.poisson.pmf(k, rate) @ scipy.special.digamma(k + 0.5) - scipy.special.digamma(0.5)
    )


@pytest.mark.parametrize("log_alpha", [-8.0, -5.0, -2.0, 0.0, 2.0, 5.0, 8.0])
@pytest.mark.parametrize(("prior", "tolerance"), [(FIT, 0.008), (EXACT, 1e-3)])
def test_against_monte_carlo(log_alpha, prior, tolerance):
    oracle = monte_carlo_kl(1.0, log_alpha, lambda w: -np.log(np.abs(w))) + CONSTANT
    assert abs(kl_divergence(at([log_alpha]), prior).item() - oracle) < tolerance


def test_the_fit_stays_within_its_published_distance_of_the_exact_value():
    """0.008 nat with the free constant in the middle; 0.0094 with both zero at alpha = infinity."""
    gap = kl_divergence(at(LOG_ALPHAS), FIT) - kl_divergence(at(LOG_ALPHAS), EXACT)
    assert 0.005 < (gap.max() - gap.min()).item() / 2 < 0.008
    assert gap.abs().max().item() < 0.0095


@pytest.mark.parametrize("log_alpha", [-6.0, -4.5, -4.28, -4.2, -2.0, 0.0, 3.0, 7.0])
def test_the_exact_value_is_the_series(log_alpha):
    got = kl_divergence(at([log_alpha]), EXACT).item()
    assert abs(got - poisson_digamma(log_alpha)) < 2e-7  # the epsilon inside log alpha


@pytest.mark.parametrize("log_alpha", [-7.0, -1.0, 3.0])
def test_the_exact_value_and_slope_by_integration_in_twenty_digits(log_alpha):
    """E log|w| under N(1, alpha), cut where the logarithm is singular; the slope by differences of it."""

    def kl(point):
        std = mpmath.exp(point / 2)
        density = lambda w: mpmath.npdf(w, 1, std) * mpmath.log(abs(w))
        places = [1 - 12 * std, 0, 1, 1 + 12 * std] if std > 0.09 else [1 - 12 * std, 1, 1 + 12 * std]
        return mpmath.quad(density, places) - mpmath.log(2 * mpmath.pi * mpmath.e) / 2 - point / 2

    with mpmath.workdps(20):
        constant = mpmath.log(2 * mpmath.pi * mpmath.e) / 2 - (mpmath.psi(0, 0.5) + mpmath.log(2)) / 2
        value, slope = float(kl(mpmath.mpf(log_alpha)) + constant), float(mpmath.diff(kl, log_alpha, h=1e-6))
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 2e-6)):
        given = torch.tensor(log_alpha, dtype=dtype, requires_grad=True)
        got = of_log_alpha(given, EXACT)
        got.backward()
        assert abs(got.item() - value) < tolerance
        assert abs(given.grad.item() - slope) < max(tolerance, 1e-8)


class TestCubic:
    """Kingma et al. 2015, appendix C."""

    prior = LogUniform(cubic=True)

    def test_it_is_the_published_polynomial_near_the_exact_value(self):
        points = torch.linspace(-12.0, 0.0, 2001, dtype=torch.float64)
        got = of_log_alpha(points, self.prior)
        a = points.exp()
        published = 0.5 * points + 1.16145124 * a - 1.50204118 * a**2 + 0.58629921 * a**3
        assert ((got + published).max() - (got + published).min()) < 1e-12
        gap = got - of_log_alpha(points, EXACT)
        assert 0.01 < (gap.max() - gap.min()).item() / 2 < 0.023 and gap[0].abs() < 1e-5

    def test_its_slope_is_its_own_and_nothing_above_one(self):
        points = torch.tensor([-6.0, -2.0, -0.1], dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda t: of_log_alpha(t, self.prior), (points,))
        above = torch.tensor([0.5, 9.0], requires_grad=True)
        value = of_log_alpha(above, self.prior)
        value.sum().backward()
        assert (value == value[0]).all() and not above.grad.any()

    def test_it_is_no_exact_kl(self):
        with pytest.raises(InputError, match="polynomial"):
            LogUniform(exact=True, cubic=True)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-6)])
def test_dawson_and_its_integral(dtype, tolerance):
    x = torch.linspace(0, 20, 401, dtype=dtype)
    value, dawson = twice_dawson_integral(x)
    assert np.abs(dawson.numpy() - scipy.special.dawsn(x.double().numpy())).max() < tolerance
    for index in (3, 81, 119, 121, 200, 400):
        expected = 2 * scipy.integrate.quad(scipy.special.dawsn, 0, float(x[index]), limit=200)[0]
        assert abs(value[index].item() - expected) < tolerance


@pytest.mark.parametrize("prior", [FIT, EXACT, LogUniform(clamp=(-8.0, 8.0)), LogUniform(True, (-8.0, 8.0))])
def test_gradients_by_finite_differences(prior):
    mean = torch.tensor([0.5, -0.01, 1.5, 0.2], dtype=torch.float64, requires_grad=True)
    log_var = torch.tensor([-6.0, -3.0, -1.0, 1.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m, v: kl_divergence(Gaussian(m, v), prior), (mean, log_var))


def test_the_fused_fit_is_the_plain_expression():
    q = posterior(np.linspace(-1, 1, 41), np.linspace(-12, 3, 41), grad=True)
    plain = fit(q.log_alpha())
    fused = kl_divergence(q, FIT)
    assert torch.allclose(fused, plain, atol=1e-12)
    for a, b in zip(
        torch.autograd.grad(fused.sum(), (q.mean, q.log_var)),
        torch.autograd.grad(plain.sum(), (q.mean, q.log_var)),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-10)


def test_limits():
    swamped = kl_divergence(posterior([0.0, 1e-9], [5.0, 9.0]), FIT)
    assert swamped.abs().max() < 1e-6 and kl_divergence(posterior([0.0], [5.0]), EXACT).abs().max() < 1e-6
    sharp = kl_divergence(at([-30.0]), FIT).item()
    assert abs(sharp - (15.0 + K1)) < 1e-3
    assert kl_divergence(at([-200.0]), EXACT).isfinite().all()


@pytest.mark.parametrize("prior", [FIT, EXACT])
def test_less_noise_always_costs_more(prior):
    values = kl_divergence(at(LOG_ALPHAS), prior)
    assert (values.diff() < 0).all() and (values > 0).all()


def test_the_published_clamp_bounds_values_and_stops_gradients():
    q = at([-20.0, 0.0], grad=True)
    value = kl_divergence(q, LogUniform(clamp=(-8.0, 8.0)))
    value.sum().backward()
    assert value[0].item() == pytest.approx(kl_divergence(at([-8.0]), FIT).item(), abs=1e-6)
    assert q.log_var.grad[0] == 0 and q.log_var.grad[1] != 0


def test_extreme_float32_inputs_stay_finite():
    mean = torch.tensor([0.0, 1e-20, 1e4, -1e4], requires_grad=True)
    log_var = torch.tensor([-60.0, 20.0, -60.0, 20.0], requires_grad=True)
    for prior in (FIT, EXACT):
        value = kl_divergence(Gaussian(mean, log_var), prior)
        grads = torch.autograd.grad(value.sum(), (mean, log_var))
        assert all(t.isfinite().all() for t in (value, *grads))


def test_float32_channels_last_keeps_its_layout():
    mean = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0)).to(
        memory_format=torch.channels_last
    )
    value = kl_divergence(Gaussian(mean, torch.full_like(mean, -4.0)), FIT)
    assert value.stride() == mean.stride()


def test_a_clamp_needs_an_order():
    with pytest.raises(InputError, match="low < high"):
        LogUniform(clamp=(8.0, -8.0))
