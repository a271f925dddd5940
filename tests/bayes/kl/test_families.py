"""KLs of multiplicative noise and of scales times weights: closed forms, Monte Carlo, groups of any shape."""

import numpy as np
import pytest
import torch

from laconic.bayes import (
    Gaussian,
    InputNoise,
    LogUniform,
    Multiplicative,
    Normal,
    Scaled,
    ScaleMixture,
    kl_divergence,
    kl_total,
)
from tests.helpers.kl_oracles import monte_carlo_kl, posterior

MEAN = torch.tensor([[1.0, -0.5, 2.0], [0.3, 0.7, -1.2]], dtype=torch.float64)


@pytest.mark.parametrize("prior", [LogUniform(), LogUniform(exact=True), LogUniform(clamp=(-3.0, 3.0))])
@pytest.mark.parametrize("shape", [(), (2, 1), (2, 3)])
def test_one_rate_for_many_weights_counts_for_each(prior, shape):
    """The sum is that of Gaussians with the same moments, whatever the rates' shape (apart from epsilon)."""
    log_alpha = torch.linspace(-2.0, 2.0, max(1, int(np.prod(shape))), dtype=torch.float64).view(shape)
    q = Multiplicative(MEAN, log_alpha.requires_grad_())
    kl = kl_divergence(q, prior)
    same = Gaussian(MEAN, (log_alpha + MEAN.square().log()).detach())
    assert kl.shape == shape
    assert kl.sum().item() == pytest.approx(kl_divergence(same, prior).sum().item(), abs=1e-6)
    assert kl_total(q, prior).item() == pytest.approx(kl.sum().item())
    assert torch.autograd.gradcheck(
        lambda a: kl_divergence(Multiplicative(MEAN, a), prior).sum(), log_alpha.detach().requires_grad_()
    )


def test_multiplicative_noise_against_a_normal_prior_by_monte_carlo():
    q = Multiplicative(torch.tensor([0.8], dtype=torch.float64), torch.tensor([-1.0], dtype=torch.float64))
    log_prior = lambda w: -0.5 * (w / 0.5) ** 2 - np.log(0.5 * np.sqrt(2 * np.pi))
    oracle = monte_carlo_kl(0.8, -1.0 + np.log(0.64), log_prior)
    assert kl_divergence(q, Normal(std=0.5)).item() == pytest.approx(oracle, abs=1e-4)


def test_kingmas_fit_of_2015_is_near_at_small_rates():
    """Kingma et al. 2015, eq. 14: -KL = c + 0.5 log a + 1.1615 a - 1.502 a^2 + 0.5863 a^3 for a <= 1."""
    rates = torch.tensor([0.05, 0.3, 0.6, 1.0], dtype=torch.float64)
    kl = kl_divergence(
        Multiplicative(torch.ones(4, dtype=torch.float64), rates.log()), LogUniform(exact=True)
    )
    cubic = -(0.5 * rates.log() + 1.16145124 * rates - 1.50204118 * rates**2 + 0.58629921 * rates**3)
    gap = kl - cubic
    assert float((gap - gap[0]).abs().max()) < 0.02


def test_noise_on_inputs_costs_what_its_factors_cost():
    """One N(1, alpha) for each input, whatever the number of weights that read it, by Monte Carlo."""
    constant = kl_divergence(posterior([1.0], [-1.0]), LogUniform(exact=True)).item()
    constant -= monte_carlo_kl(1.0, -1.0, lambda s: -np.log(np.abs(s)))
    rates = torch.tensor([[-2.0, 0.5, 1.0]], dtype=torch.float64)
    kl = kl_divergence(InputNoise(MEAN, rates, axis=1), LogUniform(exact=True))
    oracle = [monte_carlo_kl(1.0, r, lambda s: -np.log(np.abs(s))) + constant for r in rates[0].tolist()]
    assert kl[0].tolist() == pytest.approx(oracle, abs=2e-3)
    shared = InputNoise(MEAN, rates[0, 0], axis=1, units=7)  # seven inputs, of several groups
    assert kl_divergence(shared, LogUniform(exact=True)).item() == pytest.approx(7 * oracle[0], abs=2e-2)


def test_a_scale_mixture_is_the_sum_of_its_factors():
    inner = posterior([[0.4, -1.0], [2.0, 0.1]], [[-2.0, -1.0], [0.0, -3.0]], grad=True)
    scale = posterior([[1.5], [-0.2]], [[-1.0], [-2.0]], grad=True)
    q, p = Scaled(inner, scale, axis=0), ScaleMixture()
    kl = kl_divergence(q, p)
    assert kl.shape == (6,)  # four weights and two scales
    by_hand = [
        monte_carlo_kl(m, v, lambda w: -0.5 * w**2 - 0.5 * np.log(2 * np.pi))
        for m, v in zip(inner.mean.flatten().tolist(), inner.log_var.flatten().tolist(), strict=True)
    ]
    assert kl[:4].tolist() == pytest.approx(by_hand, abs=1e-3)
    jeffreys = kl_divergence(scale, LogUniform())
    assert kl[4:].tolist() == pytest.approx(jeffreys.flatten().tolist())
    assert kl_total(q, p).item() == pytest.approx(kl.sum().item())
    kl_total(q, p).backward()
    assert all(t.grad is not None and t.grad.abs().sum() > 0 for t in q.parameters().values())
