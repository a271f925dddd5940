"""Log-normal gates against SciPy's truncated normal, their own draws, and autodiff."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from laconic.bayes import NoiseSource, TruncatedLogNormal
from laconic.errors import InputError

CASES = [(0.0, -5.0), (-10.0, 1.5), (-3.0, 0.0), (0.5, -1.0), (-25.0, 0.5), (2.0, 0.0), (-19.0, 2.5)]
DRAWS = 40_000


def gate(mu, log_sigma, kind=torch.float64):
    return TruncatedLogNormal(torch.tensor([mu], dtype=kind), torch.tensor([log_sigma], dtype=kind))


def oracle(mu, log_sigma):
    """SciPy's distribution of log z, and its first two moments of z by quadrature."""
    sigma = math.exp(log_sigma)
    log_z = stats.truncnorm((-20 - mu) / sigma, (0 - mu) / sigma, mu, sigma)
    mode = min(max(mu, -20.0), 0.0)
    moments = []
    for k in (1, 2):
        density = lambda x, k=k: math.exp(k * x) * log_z.pdf(x)
        parts = zip((-20.0, mode - 8 * sigma, mode), (mode - 8 * sigma, mode, 0.0), strict=True)
        spans = [(max(a, -20.0), max(b, -20.0)) for a, b in parts]
        moments.append(sum(integrate.quad(density, a, b, limit=200)[0] for a, b in spans))
    return log_z, moments


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize(("mu", "log_sigma"), CASES)
def test_kl_and_moments(mu, log_sigma, kind):
    log_z, (first, second) = oracle(mu, log_sigma)
    one = gate(mu, log_sigma, kind)
    close = 2e-4 if kind == torch.float32 else 1e-6
    assert one.penalty().item() == pytest.approx(math.log(20) - log_z.entropy(), rel=close)
    assert one.expectation().item() == pytest.approx(first, rel=close)
    snr = first / math.sqrt(second - first**2)
    assert one.signal_to_noise().item() == pytest.approx(snr, rel=2e-3 if kind == torch.float32 else 1e-5)


@pytest.mark.parametrize(("mu", "log_sigma"), CASES)
def test_the_kl_is_that_of_the_draws(mu, log_sigma):
    """Monte Carlo: E[log q - log p], p uniform over 20 nats; five standard errors, once in a million."""
    log_z, _ = oracle(mu, log_sigma)
    one = gate(mu, log_sigma)
    many = one.with_parameters({s: p.expand(DRAWS) for s, p in one.parameters().items()})
    drawn = many.sample(NoiseSource(1)).log().numpy()
    assert stats.kstest(drawn, log_z.cdf).pvalue > 1e-5
    terms = log_z.logpdf(np.clip(drawn, -20 + 1e-9, -1e-12)) + math.log(20)
    error = terms.std() / math.sqrt(DRAWS)
    assert abs(terms.mean() - one.penalty().item()) < 5 * error + 1e-6


def test_gradients_are_those_of_finite_differences():
    mu, log_sigma = (
        torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in zip(*CASES, strict=True)
    )
    for function in ("penalty", "expectation"):
        call = lambda m, s, f=function: getattr(TruncatedLogNormal(m, s), f)()
        assert torch.autograd.gradcheck(call, (mu, log_sigma), atol=1e-6)
    inside = [2, 3, 6]  # draws at an edge of the interval have no slope
    drawn = lambda m, s: TruncatedLogNormal(m, s).sample(NoiseSource(5))
    assert torch.autograd.gradcheck(drawn, (mu[inside].detach().requires_grad_(), log_sigma[inside].detach()))


def test_a_unit_goes_below_a_ratio_of_one():
    gates = TruncatedLogNormal(torch.tensor([-3.0, -3.0, 0.0]), torch.tensor([0.0, -1.0, -5.0]))
    assert gates.keep().tolist() == [False, True, True]  # 0.848 by quadrature, above: test_kl_and_moments
    assert TruncatedLogNormal.open(4).keep().all()


def test_settings_that_cannot_be():
    with pytest.raises(InputError, match="one shape"):
        TruncatedLogNormal(torch.zeros(2), torch.zeros(3))
