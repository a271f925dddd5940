import numpy as np
import pytest
import torch

from laconic.bayes.kl import kl_divergence
from laconic.bayes.posteriors import Gaussian
from laconic.bayes.priors import Normal
from laconic.errors import InputError
from tests.helpers.kl_oracles import monte_carlo_kl, posterior

PRIOR = Normal(mean=0.3, std=0.5)


def log_prior(w):
    return -0.5 * np.log(2 * np.pi * PRIOR.std**2) - 0.5 * ((w - PRIOR.mean) / PRIOR.std) ** 2


@pytest.mark.parametrize(("mean", "log_var"), [(0.3, -1.0), (-1.0, -6.0), (2.0, 1.0)])
def test_against_monte_carlo(mean, log_var):
    got = kl_divergence(posterior([mean], [log_var]), PRIOR).item()
    assert abs(got - monte_carlo_kl(mean, log_var, log_prior, draws=100_000)) < 2e-3


def test_against_torch_distributions():
    q = posterior(np.linspace(-2, 2, 7), np.linspace(-8, 2, 7))
    dist = torch.distributions
    expected = dist.kl_divergence(dist.Normal(q.mean, q.std), dist.Normal(PRIOR.mean, PRIOR.std))
    assert torch.allclose(kl_divergence(q, PRIOR), expected, rtol=1e-6)


def test_zero_at_equality_and_gradients():
    q = posterior([0.3], [2 * np.log(0.5)])
    assert abs(kl_divergence(q, PRIOR).item()) < 1e-12
    q = posterior([0.1, -0.4], [-3.0, 0.5], grad=True)
    assert torch.autograd.gradcheck(lambda m, v: kl_divergence(Gaussian(m, v), PRIOR), (q.mean, q.log_var))


def test_a_prior_without_width_is_refused():
    with pytest.raises(InputError, match="std > 0"):
        Normal(std=0.0)
