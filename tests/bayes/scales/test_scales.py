"""The gates of Bayesian compression: draws against moments, KLs against their definition, what goes."""

import math

import pytest
import torch

from laconic.bayes import (
    Gaussian,
    HalfCauchy,
    Horseshoe,
    LogNormalPair,
    LogUniform,
    NoiseSource,
    NormalJeffreys,
)
from laconic.bayes.kl import kl_divergence
from laconic.errors import InputError

DRAWS = 20_000


def jeffreys():
    return NormalJeffreys(torch.tensor([1.0, 0.2, -0.5]).double(), torch.tensor([-4.0, 1.0, -2.0]).double())


def horseshoe():
    local = torch.tensor(
        [[-1.0, 0.5, -9.0], [-2.0, -0.5, -3.0], [0.3, 0.0, 0.2], [-1.0, -4.0, -2.0]]
    ).double()
    shared = torch.tensor([[-22.0], [-2.0], [22.0], [-3.0]]).double()
    return Horseshoe(*local, *shared)


@pytest.mark.parametrize("make", [jeffreys, horseshoe])
def test_moments_are_those_of_draws(make):
    """Means within six standard errors, variances within a tenth."""
    gate, noise = make(), NoiseSource(0)
    with torch.no_grad():
        drawn = torch.stack([gate.sample(noise) for _ in range(DRAWS)])
    error = (gate.variance() / DRAWS).sqrt()
    assert ((drawn.mean(0) - gate.expectation()).abs() < 6 * error).all()
    assert torch.allclose(drawn.var(0), gate.variance(), rtol=0.1)


@pytest.mark.parametrize("make", [jeffreys, horseshoe])
def test_draws_and_penalties_are_differentiable(make):
    gate = make()
    fields = {s: t.clone().requires_grad_() for s, t in gate.parameters().items()}

    def of(function):
        return lambda *values: function(gate.with_parameters(dict(zip(fields, values, strict=True))))

    assert torch.autograd.gradcheck(of(lambda g: g.sample(NoiseSource(3))), tuple(fields.values()))
    assert torch.autograd.gradcheck(of(lambda g: g.penalty()), tuple(fields.values()))


def test_the_shared_scale_is_shared():
    """Correlation of log z between two units: the shared part of the variance, 0.5 % of it at most off."""
    gate, noise = horseshoe(), NoiseSource(0)
    logs = torch.stack([gate.sample(noise) for _ in range(DRAWS)]).log()
    shared = 0.25 * (math.exp(-2.0) + math.exp(-3.0))
    assert torch.cov(logs[:, :2].T)[0, 1].item() == pytest.approx(shared, rel=0.1)


def test_penalties_are_the_kls_of_all_factors():
    gate = jeffreys()
    assert torch.equal(gate.penalty(), kl_divergence(Gaussian(gate.mean, gate.log_var), LogUniform()))
    gate = horseshoe()
    local = LogNormalPair(gate.a_mean, gate.a_log_var, gate.b_mean, gate.b_log_var)
    shared = LogNormalPair(
        gate.global_a_mean, gate.global_a_log_var, gate.global_b_mean, gate.global_b_log_var
    )
    wanted = kl_divergence(local, HalfCauchy()).sum() + kl_divergence(shared, HalfCauchy(1e-5)).sum()
    assert gate.penalty().sum().item() == pytest.approx(wanted.item(), rel=1e-12)


def test_a_horseshoe_opens_at_one_for_a_price_by_group():
    """However many units there are, the shared scale costs log(1 / tau) - 1 nats more than with tau 1."""
    for units in (1, 50):
        gate, usual = Horseshoe.open(units, -30.0, 1e-5), Horseshoe.open(units, -30.0, 1.0)
        assert gate.mode().tolist() == pytest.approx([1.0] * units, abs=1e-4)
        # both pairs start where e^0 / 1 and e^-mu stand in the closed form: that of b is 1 or tau^2
        gap = gate.penalty().sum() - usual.penalty().sum()
        assert gap.item() == pytest.approx(-math.log(1e-5) - 1.0, abs=1e-3)


def test_what_goes():
    gate = NormalJeffreys(torch.tensor([1.0, 1.0]), torch.tensor([2.99, 3.01]))
    assert gate.keep().tolist() == [True, False] and gate.score().tolist() == pytest.approx([-2.99, -3.01])
    low = horseshoe()
    with torch.no_grad():
        low.a_mean[1] -= 8.0  # log z by -4
    assert low.keep().tolist() == [True, False, False] or low.keep()[1].item() is False
    assert low.score().max().item() == 0.0


def test_log_variances_are_clamped():
    gate = Horseshoe.open(2, -9.0)
    with torch.no_grad():
        gate.a_log_var.fill_(9.0)
        gate.global_b_log_var.fill_(-99.0)
    gate.clamp(-20.0, 4.0)
    assert gate.a_log_var.tolist() == [4.0, 4.0] and gate.global_b_log_var.tolist() == [-20.0]


def test_what_cannot_be():
    with pytest.raises(InputError, match="mean and log_var of one shape"):
        NormalJeffreys(torch.zeros(2), torch.zeros(3))
    with pytest.raises(InputError, match="horseshoe gates need"):
        Horseshoe(*[torch.zeros(2)] * 8, tau=0.0)
