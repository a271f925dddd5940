"""The KL of log-normal pairs to a half-Cauchy prior against quadrature, draws and finite differences."""

import numpy as np
import pytest
import torch
from scipy import stats

from laconic.bayes import HalfCauchy, LogNormalPair, NoiseSource, kl_divergence, kl_total
from laconic.errors import InputError

SCALE = 0.03
MEANS = [[-8.0, -4.0, 0.5], [2.0, -1.0, 3.0]]
LOG_VARS = [[-3.0, 0.4, -9.0], [-1.0, -6.0, 0.8]]


def pair(grad=False):
    make = lambda v: torch.tensor(v, dtype=torch.float64, requires_grad=grad)
    return LogNormalPair(make(MEANS[0]), make(LOG_VARS[0]), make(MEANS[1]), make(LOG_VARS[1]))


def by_quadrature(mean, log_var, log_prior):
    """KL(LN || prior) by 80 nodes of Gauss and Hermite, with SciPy's densities."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    sigma = np.exp(0.5 * log_var)
    x = np.exp(mean + sigma * nodes)
    gap = stats.lognorm.logpdf(x, sigma, scale=np.exp(mean)) - log_prior(x)
    return float((weights * gap).sum() / weights.sum())


def test_the_kl_is_that_of_quadrature():
    gamma = stats.gamma(0.5, scale=SCALE**2)
    inverse = stats.invgamma(0.5, scale=1.0)
    wanted = [
        by_quadrature(ma, va, gamma.logpdf) + by_quadrature(mb, vb, inverse.logpdf)
        for ma, va, mb, vb in zip(MEANS[0], LOG_VARS[0], MEANS[1], LOG_VARS[1], strict=True)
    ]
    got = kl_divergence(pair(), HalfCauchy(SCALE))
    assert got.tolist() == pytest.approx(wanted, rel=1e-7)
    assert kl_total(pair(), HalfCauchy(SCALE)).item() == pytest.approx(sum(wanted), rel=1e-7)


def test_the_kl_is_that_of_draws():
    """Mean of 400 000 draws within six standard errors: fails by chance once in 10^8."""
    rng = np.random.default_rng(0)
    a, b = stats.lognorm(0.6, scale=np.exp(-8.0)), stats.lognorm(0.9, scale=np.exp(0.3))
    xa, xb = a.rvs(400_000, random_state=rng), b.rvs(400_000, random_state=rng)
    gaps = a.logpdf(xa) - stats.gamma.logpdf(xa, 0.5, scale=SCALE**2)
    gaps += b.logpdf(xb) - stats.invgamma.logpdf(xb, 0.5)
    fields = [[-8.0], [2 * np.log(0.6)], [0.3], [2 * np.log(0.9)]]
    q = LogNormalPair(*(torch.tensor(v, dtype=torch.float64) for v in fields))
    error = gaps.std() / np.sqrt(len(gaps))
    assert abs(kl_divergence(q, HalfCauchy(SCALE)).item() - gaps.mean()) < 6 * error


def test_the_gradient_is_that_of_finite_differences():
    q = pair(grad=True)
    fields = (q.a_mean, q.a_log_var, q.b_mean, q.b_log_var)
    assert torch.autograd.gradcheck(lambda *t: kl_divergence(LogNormalPair(*t), HalfCauchy(SCALE)), fields)


def test_the_root_of_the_two_factors_is_half_cauchy():
    """Kolmogorov and Smirnov's distance of 100 000 draws: beyond 0.0085 with probability 1e-6."""
    rng = np.random.default_rng(1)
    a = stats.gamma.rvs(0.5, scale=SCALE**2, size=100_000, random_state=rng)
    b = stats.invgamma.rvs(0.5, size=100_000, random_state=rng)
    assert stats.kstest(np.sqrt(a * b), stats.halfcauchy(scale=SCALE).cdf).statistic < 0.0085


def test_moments_are_those_of_draws():
    q = pair()
    drawn = torch.stack([q.rsample(noise) for noise in [NoiseSource(0)] for _ in range(20_000)])
    mean, variance = q.moments()
    error = (variance / 20_000).sqrt()
    assert ((drawn.mean(0) - mean).abs() < 6 * error).all()
    wanted = stats.lognorm(float(q.log_moments()[1][0].sqrt()), scale=float(q.log_moments()[0][0].exp()))
    assert (mean[0].item(), variance[0].item()) == pytest.approx((wanted.mean(), wanted.var()), rel=1e-9)


def test_scales_that_are_held_are_next_to_zero():
    q = pair()
    q.hold(torch.tensor([True, False, True]))
    assert q.moments()[0][1] < 1e-80 and q.moments()[0][0] > 0.01


def test_what_cannot_be():
    with pytest.raises(InputError, match="half-Cauchy prior needs a finite scale > 0, got 0"):
        HalfCauchy(0.0)
    with pytest.raises(InputError, match="parameters of one shape"):
        LogNormalPair(torch.zeros(2), torch.zeros(2), torch.zeros(3), torch.zeros(2))
