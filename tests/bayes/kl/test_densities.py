"""KLs to priors given by a density: the quadrature against integrals, the closed forms, the limits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate
from torch import Tensor

from laconic.bayes import (
    DensityPrior,
    Gaussian,
    Laplace,
    Normal,
    Point,
    SpikeAndSlab,
    StudentT,
    check_rules,
    kl_divergence,
    kl_total,
)
from laconic.bayes.kl.gaussian_density import PIECE, gaussian_density, student_t_error
from laconic.errors import InputError
from tests.helpers.kl_oracles import monte_carlo_kl, posterior


def by_integral(mean: float, std: float, prior: DensityPrior) -> float:
    """E log q - E log p by scipy's adaptive rule, in pieces of the posterior's width."""

    def integrand(z: float) -> float:
        weight = torch.tensor(mean + std * z, dtype=torch.float64)
        return float(prior.log_density(weight)) * math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)

    edges = sorted({-9.0, -3.0, 0.0, 3.0, 9.0, min(9.0, max(-9.0, -mean / std))})
    parts = zip(edges, edges[1:], strict=False)
    expected = sum(integrate.quad(integrand, a, b, limit=200, epsabs=1e-10)[0] for a, b in parts)
    return -0.5 * math.log(2 * math.pi * math.e * std**2) - expected


PLACES = [(0.0, 0.05), (0.3, 0.1), (-1.0, 0.02), (0.02, 0.4)]


@pytest.mark.parametrize(("mean", "std"), PLACES)
@pytest.mark.parametrize("prior", [Laplace(0.1), StudentT(3.0, 0.1), StudentT(1.0, 0.2)])
def test_against_an_adaptive_integral(mean: float, std: float, prior: DensityPrior) -> None:
    got = kl_divergence(posterior([mean], [2 * math.log(std)]), prior).item()
    allowed = 1e-7 + (student_t_error(std, prior) if isinstance(prior, StudentT) else 0.0)
    assert abs(got - by_integral(mean, std, prior)) < allowed


def test_against_monte_carlo() -> None:
    for prior in (Laplace(0.1), StudentT(3.0, 0.1)):
        density = lambda w, p=prior: p.log_density(torch.from_numpy(w)).numpy()
        got = kl_divergence(posterior([0.05], [-4.0]), prior).item()
        assert abs(got - monte_carlo_kl(0.05, -4.0, density, draws=100_000)) < 1e-3


def test_the_bound_of_students_t_holds_and_says_something() -> None:
    """Against 4001 nodes, over posteriors up to 30 times as wide as the prior; the worst mean is anywhere."""

    class Fine(StudentT):
        nodes = 4001

    for df in (1.0, 3.0, 10.0):
        for std in (0.05, 0.1, 0.3, 1.0, 3.0):
            means = np.linspace(0.0, 2.0 * std, 41)
            q = posterior(means, np.full(41, 2 * math.log(std)))
            gap = (kl_divergence(q, StudentT(df, 0.1)) - kl_divergence(q, Fine(df, 0.1))).abs().max().item()
            bound = student_t_error(std, StudentT(df, 0.1))
            assert gap <= bound
            assert bound < 1e-5 + 100 * gap or bound < 2e-6


def test_the_quadrature_has_the_closed_form_of_a_normal() -> None:
    q = posterior(np.linspace(-2, 2, 9), np.linspace(-9, 1, 9))
    prior = Normal(0.1, 0.4)
    assert torch.allclose(gaussian_density(q, prior), kl_divergence(q, prior), rtol=1e-6, atol=1e-6)


def test_a_kink_costs_what_the_docstring_says() -> None:
    q = posterior(np.linspace(-0.3, 0.3, 61), np.full(61, 2 * math.log(0.1)))
    prior = Laplace(0.1)
    gap = (gaussian_density(q, prior) - kl_divergence(q, prior)).abs().max().item()
    jump, step = 2 / 0.1, 12 / 32
    assert 0.3 < gap / (step**2 * 0.1 * jump / 12 / math.sqrt(2 * math.pi)) < 1.3


def test_gradients_of_all_that_is_learned() -> None:
    @dataclass(frozen=True, eq=False)
    class Learned(DensityPrior):
        log_scale: Tensor

        def log_density(self, weights: Tensor) -> Tensor:
            return -torch.log1p((weights / self.log_scale.exp()).square()) - self.log_scale

    q = posterior([0.1, -0.4], [-3.0, 0.5], grad=True)
    scale = torch.tensor(-1.0, dtype=torch.float64, requires_grad=True)
    own = lambda m, v, s: kl_divergence(Gaussian(m, v), Learned(s))
    assert torch.autograd.gradcheck(own, (q.mean, q.log_var, scale))
    for prior in (Laplace(0.3), SpikeAndSlab(), SpikeAndSlab(Laplace(0.1), StudentT(3.0, 0.5), 0.5)):
        rule = lambda m, v, p=prior: kl_divergence(Gaussian(m, v), p)
        assert torch.autograd.gradcheck(rule, (q.mean, q.log_var))


def test_many_weights_in_pieces() -> None:
    generator = torch.Generator().manual_seed(0)
    q = Gaussian(torch.randn(3, PIECE // 2, generator=generator), torch.full((3, PIECE // 2), -6.0))
    kl = kl_divergence(q, StudentT())
    assert kl.shape == q.mean.shape
    part = kl_divergence(Gaussian(q.mean[2, :5], q.log_var[2, :5]), StudentT())
    torch.testing.assert_close(kl[2, :5], part)
    torch.testing.assert_close(kl_total(q, StudentT()), kl.sum())


def test_the_limit_of_a_narrow_posterior_under_a_laplace_prior_is_l1() -> None:
    mean = torch.tensor([0.0, 0.2, -0.7], dtype=torch.float64)
    narrow = Gaussian(mean, torch.full_like(mean, -40.0))
    entropy = 0.5 * (math.log(2 * math.pi * math.e) - 40.0)
    l1 = mean.abs() / 0.1 + math.log(0.2)
    torch.testing.assert_close(kl_divergence(narrow, Laplace(0.1)) + entropy, l1, rtol=0, atol=1e-6)
    torch.testing.assert_close(kl_divergence(Point(mean), Laplace(0.1)), l1)


def test_spike_and_slab_is_a_bound_between_its_parts() -> None:
    means = np.repeat([0.0, 0.02, 0.1, 0.5], 3)
    q = posterior(means, np.tile([-9.0, -6.0, -3.0], 4))
    spike, slab, share = Normal(std=0.02), Laplace(0.3), 0.8
    bound = kl_divergence(q, SpikeAndSlab(spike, slab, share))
    exact = kl_divergence(q, SpikeAndSlab(spike, slab, share, exact=True))
    parts = kl_divergence(q, spike) - math.log(share), kl_divergence(q, slab) - math.log(1 - share)
    assert (bound >= exact - 1e-6).all()
    assert (bound <= torch.minimum(*parts)).all()
    assert 1.1 < (bound - exact).max() < 1.2  # as the docstring of the rule says
    one = SpikeAndSlab(slab, slab, share)  # the bound is exact where both parts are one
    torch.testing.assert_close(kl_divergence(q, one), kl_divergence(q, slab))


def test_a_density_that_cannot_be_integrated_is_refused() -> None:
    @dataclass(frozen=True)
    class Own(DensityPrior):
        kind: str = "sum"

        def log_density(self, weights: Tensor) -> Tensor:
            return weights.sum() if self.kind == "sum" else -weights.abs().log()

    class Even(Own):
        nodes = 32

    q = posterior([0.0, 0.1], [-3.0, -3.0])
    with pytest.raises(InputError, match=r"Own.log_density returned shape \(\).*Cure: one number for each"):
        kl_divergence(q, Own())
    with pytest.raises(InputError, match=r"Even.nodes must be an odd number.* got 32. Cure: nodes = 33"):
        kl_divergence(q, Even())
    with pytest.raises(InputError, match=r"KL\(Gaussian \|\| Own\) of 'fc.weight' is .*inf. Cure"):
        check_rules({"fc.weight": q}, Own("log"))


@dataclass(frozen=True, eq=False)
class Given(DensityPrior):
    """A density that returns what a function of the weights returns."""

    function: Callable[[Tensor], Any]

    def log_density(self, weights: Tensor) -> Tensor:
        return self.function(weights)  # type: ignore[no-any-return]


def test_a_density_in_float64_is_cast() -> None:
    for kind in (Gaussian(torch.ones(3), torch.full((3,), -2.0)), Point(torch.ones(3))):
        wide = kl_divergence(kind, Given(lambda w: -w.double().square()))
        assert wide.dtype == torch.float32
        torch.testing.assert_close(wide, kl_divergence(kind, Given(lambda w: -w.square())))


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda w: w.long(), "returned int64 numbers"),
        (lambda w: w.to(torch.complex64), "returned complex64 numbers"),
        (lambda w: w > 0, "returned bool numbers"),
        (lambda w: w.detach().numpy(), "must return a tensor, got ndarray"),
        (lambda w: -0.5, "must return a tensor, got float"),
        (lambda w: None, "must return a tensor, got NoneType"),
        (lambda w: w.nothing(), "raised AttributeError for weights of shape .*: .*nothing"),
        (lambda w: 1 / 0, "raised ZeroDivisionError for weights of shape"),
    ],
)
def test_a_density_of_another_kind_is_named(function: Callable[[Tensor], Any], told: str) -> None:
    for kind in (Gaussian(torch.ones(3), torch.full((3,), -2.0)), Point(torch.ones(3))):
        with pytest.raises(InputError, match=rf"Given\.log_density {told}.*Cure: one number in nats"):
            kl_divergence(kind, Given(function))
        parts = SpikeAndSlab(spike=Given(function), exact=True)
        with pytest.raises(InputError, match=rf"Given\.log_density {told}"):
            kl_divergence(kind, parts)
