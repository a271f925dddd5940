"""The bounds on a Gaussian's KL to a mixture. Oracles: the integral, Jensen's other bound, closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from laconic.bayes.kl import kl_divergence, kl_total
from laconic.bayes.kl.gaussian_sparse_mixture import log_uniform_constant
from laconic.bayes.posteriors import Gaussian, Multiplicative, Point
from laconic.bayes.priors import GaussianMixture, LogUniform, Normal, SparseMixture
from tests.helpers.kl_oracles import monte_carlo_kl

MEANS = torch.linspace(-0.32, 0.32, 17).double()
SHARES = torch.full((17,), 0.01 / 16).double().index_fill(0, torch.tensor([8]), 0.99)


def of_mixture(exact: bool = False) -> GaussianMixture:
    """17 components 0.04 apart and 0.02 wide, of which zero has 0.99."""
    return GaussianMixture(MEANS, torch.full((17,), 0.02).double(), SHARES, exact)


def of_sparse(exact: bool = False) -> SparseMixture:
    """The same 16 Gaussians beside a log-uniform part."""
    means = torch.cat([MEANS[:8], MEANS[9:]])
    return SparseMixture(GaussianMixture(means, torch.full((16,), 0.02).double(), exact=exact), 0.9)


def posterior(std: float) -> Gaussian:
    mean = torch.linspace(-0.4, 0.4, 81).double()
    return Gaussian(mean, torch.full_like(mean, 2 * math.log(std)))


def lower_bound(q: Gaussian, p: GaussianMixture) -> Tensor:
    """E log p <= log E p: a mixture to whose components the posterior's variance is added."""
    stds = (torch.as_tensor(p.stds).double().square() + q.log_var.exp()[0]).sqrt()
    wider = GaussianMixture(p.means, stds, p.shares)
    return -0.5 * (1 + math.log(2 * math.pi) + q.log_var) - wider.log_density(q.mean)


@pytest.mark.parametrize(("std", "most"), [(0.001, 0.006), (0.005, 0.13), (0.02, 1.3), (0.1, 15.0)])
def test_the_integral_lies_between_the_two_bounds(std: float, most: float) -> None:
    q = posterior(std)
    upper, exact = kl_divergence(q, of_mixture()), kl_divergence(q, of_mixture(exact=True))
    assert bool((lower_bound(q, of_mixture()) <= exact + 1e-4).all())
    assert bool((exact <= upper + 1e-4).all())
    assert most / 2 < (upper - exact).max().item() < most, "as the docstring says"


def test_the_integral_is_that_of_monte_carlo() -> None:
    for prior in (of_mixture(exact=True), of_sparse(exact=True)):
        for mean, log_var in ((0.0, -8.0), (0.03, -6.0), (0.31, -9.0)):
            got = kl_divergence(
                Gaussian(torch.tensor([mean]).double(), torch.tensor([log_var]).double()), prior
            )
            log_prior = lambda w, p=prior: p.log_density(torch.from_numpy(w)).numpy()
            assert got.item() == pytest.approx(monte_carlo_kl(mean, log_var, log_prior), abs=2e-3)


def test_one_component_is_the_closed_form() -> None:
    q = posterior(0.05)
    one = GaussianMixture((0.1,), (0.3,))
    assert torch.allclose(kl_divergence(q, one), kl_divergence(q, Normal(0.1, 0.3)), rtol=1e-10)


@pytest.mark.parametrize("std", [0.001, 0.005, 0.02, 0.05, 0.1, 0.3])
def test_the_bound_beside_a_log_uniform_part_is_never_far_off(std: float) -> None:
    gap = kl_divergence(posterior(std), of_sparse()) - kl_divergence(posterior(std), of_sparse(exact=True))
    assert gap.min().item() > -0.01 and gap.max().item() < 0.9


def test_noise_alone_costs_the_log_uniform_constant() -> None:
    q = Gaussian(torch.zeros(1).double(), torch.tensor([2.0]).double())
    nats = kl_divergence(q, of_sparse()).item()
    assert nats == pytest.approx(log_uniform_constant(20.0) - math.log(0.9), abs=1e-3)
    apart = monte_carlo_kl(0.0, 2.0, lambda w: -math.log(40.0) - torch.from_numpy(w).abs().log().numpy())
    assert log_uniform_constant(20.0) == pytest.approx(apart, abs=1e-3)


def test_far_from_all_values_it_is_sparse_vds_kl() -> None:
    q = Gaussian(torch.tensor([3.0, -5.0]).double(), torch.tensor([-3.0, -4.0]).double())
    expected = kl_divergence(q, LogUniform()) + log_uniform_constant(20.0) - math.log(0.9)
    assert torch.allclose(kl_divergence(q, of_sparse()), expected, rtol=1e-9)


def test_sums_and_gradients_reach_what_is_learned() -> None:
    stds = torch.full((16,), 0.02).double().requires_grad_()
    means = torch.cat([MEANS[:8], MEANS[9:]]).requires_grad_()
    logits, share = torch.zeros(16).double().requires_grad_(), torch.tensor(0.9).double().requires_grad_()
    q, learned = posterior(0.01), (means, stds, logits, share)

    def prior() -> SparseMixture:
        return SparseMixture(GaussianMixture(means, stds, torch.softmax(logits, 0)), share)

    of_sum = torch.autograd.grad(kl_total(q, prior()), learned)
    of_parts = torch.autograd.grad(kl_divergence(q, prior()).sum(), learned)
    for a, b in zip(of_sum, of_parts, strict=True):
        assert bool(a.abs().sum() > 0) and torch.allclose(a, b, rtol=1e-8, atol=1e-8)


def test_multiplicative_noise_and_points_follow_the_gaussian() -> None:
    mean = torch.tensor([0.1, -0.3]).double()
    loud = Multiplicative(mean, torch.tensor(-3.0).double())
    for prior in (of_mixture(), of_sparse()):
        assert torch.equal(kl_divergence(loud, prior), kl_divergence(loud.as_gaussian(), prior))
        assert kl_total(loud, prior).item() == pytest.approx(kl_divergence(loud, prior).sum().item())
    values = kl_divergence(Point(mean), of_mixture())
    assert torch.allclose(values, -of_mixture().log_density(mean), rtol=1e-10)
    normals = torch.distributions.Normal(MEANS, 0.02)
    by_hand = -(normals.log_prob(mean.unsqueeze(1)).exp() * SHARES).sum(1).log()
    assert torch.allclose(values, by_hand, rtol=1e-9)
