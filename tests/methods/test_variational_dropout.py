from __future__ import annotations

import copy
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import laconic
from laconic.bayes import InputNoise, LogUniform, Multiplicative, kl_divergence, posteriors_of
from laconic.errors import InputError
from laconic.methods import VariationalDropout
from laconic.zoo import DigitsMLP
from tests.helpers.method_suite import digits, train

WIDE: dict[str, Any] = {"kl": "exact", "log_alpha_bounds": (-8.0, 8.0)}


def model() -> nn.Module:
    return DigitsMLP(hidden=16, generator=torch.Generator().manual_seed(1))


def prepared(method: VariationalDropout) -> nn.Module:
    return laconic.prepare(model(), method, digits()[0][:2], data_size=100, seed=0)


def cubic(rate: float) -> float:
    """Kingma et al. 2015, appendix C, with the constant that is exact for small alpha."""
    alpha = rate / (1 - rate)
    minus = 0.5 * math.log(alpha) + 1.16145124 * alpha - 1.50204118 * alpha**2 + 0.58629921 * alpha**3
    return 0.5 * (np.euler_gamma + math.log(2)) - minus


@pytest.mark.parametrize(
    ("noise", "per", "counts"),
    [
        ("A", "layer", (64, 16)),  # type A: one factor for each input of a layer
        ("A", "unit", (64, 16)),
        ("B", "layer", (1024, 160)),  # type B: each weight
        ("B", "unit", (1024, 160)),
        ("B", "weight", (1024, 160)),
    ],
)
def test_the_penalty_is_the_polynomial_for_each_random_number(
    noise: Any, per: Any, counts: tuple[int, int]
) -> None:
    method = VariationalDropout(noise, per, rate=0.3, first_rate=0.1, kl_weight=0.5)
    net = prepared(method)
    wanted = 0.5 * (counts[0] * cubic(0.1) + counts[1] * cubic(0.3)) / 100
    assert laconic.penalty(net).item() == pytest.approx(wanted, rel=1e-5)
    shapes = {"layer": [(), ()], "unit": [(1, 64), (1, 16)], "weight": [(16, 64), (10, 16)]}[per]
    assert [tuple(q.spread()[0].shape) for q in posteriors_of(net).values()] == shapes
    assert {type(q) for q in posteriors_of(net).values()} == {InputNoise if noise == "A" else Multiplicative}


def test_fixed_rates_have_no_penalty_and_stay() -> None:
    method = VariationalDropout("B", learned=False)
    net = train(model(), method)
    assert laconic.penalty(net).item() == 0.0
    first, second = posteriors_of(net).values()
    assert first.spread()[0].item() == pytest.approx(math.log(0.2 / 0.8))
    assert second.spread()[0].item() == 0.0
    assert not torch.equal(first.expectation(), model().get_parameter("fc1.weight"))


def test_learned_rates_move_and_never_leave_their_bounds() -> None:
    method = VariationalDropout(noise_lr=100.0, rate=0.45)
    net = train(model(), method)
    rates = [float(q.spread()[0].detach()) for q in posteriors_of(net).values()]
    assert rates[1] == 0.0  # alpha = 1: few steps' likelihood asks for less than the KL pushes
    assert all(-8.0 <= r <= 0.0 for r in rates) and rates[0] != pytest.approx(math.log(0.25))


@pytest.mark.parametrize(("noise", "per"), [("A", "unit"), ("B", "unit"), ("B", "weight")])
def test_rates_above_the_threshold_remove_units_and_weights(noise: Any, per: Any) -> None:
    net = prepared(VariationalDropout(noise, per, **WIDE))
    before = laconic.convert(copy.deepcopy(net))
    assert before.tensors["fc2.weight"].nonzeros() > 120
    with torch.no_grad():
        posteriors_of(net)["fc2.weight"].spread()[0][:, 3] = 3.5
    small = laconic.convert(net)
    weight = small.module.get_parameter("fc2.weight")
    assert not weight[:, 3].any() and weight[:, :3].count_nonzero() > 20
    assert small.facts["log_alpha"]["fc2.weight"] == [0.0, 0.0, 3.5]
    json.dumps(dict(small.facts))
    left = VariationalDropout(noise, per, **WIDE).weights_left(net)
    assert left["fc2.weight"] == 150


@pytest.mark.parametrize(
    "settings", [{}, {"per": "unit"}, {**WIDE, "per": "layer"}, {**WIDE, "per": "unit", "learned": False}]
)
def test_a_clipped_fixed_or_shared_rate_removes_nothing(settings: dict[str, Any]) -> None:
    method = VariationalDropout(**settings)
    net = prepared(method)
    with torch.no_grad():
        for q in posteriors_of(net).values():
            q.spread()[0].fill_(method.log_alpha_bounds[1])
    assert not method.prunes and method.weights_left(net) == {}
    assert laconic.convert(net).tensors["fc2.weight"].nonzeros() > 0


def test_noise_on_inputs_is_correlated_noise_on_weights() -> None:
    """Of one output the variance is the same; of two outputs type A has a covariance, type B has none."""
    x = torch.ones(20_000, 1, 8, 8)
    found = {}
    for noise in ("A", "B"):
        method = VariationalDropout(noise)
        net = laconic.prepare(
            nn.Sequential(nn.Flatten(), nn.Linear(64, 2, bias=False)), method, x[:2], data_size=100
        )
        with torch.no_grad():
            net[1].weight.fill_(0.5)
            found[noise] = torch.cov(net(x).T)
    variance = 0.25 * 64 * 0.25  # alpha = 0.2 / 0.8, 64 inputs, theta^2
    for cov in found.values():
        assert torch.allclose(cov.diag(), torch.full((2,), variance), rtol=0.06)  # six standard errors
    assert float(found["A"][0, 1]) == pytest.approx(variance, rel=0.06)
    assert abs(float(found["B"][0, 1])) < 0.06 * variance


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"noise": "C"}, "noise must be one of A, B"),
        ({"per": "weight"}, "per='unit'"),
        ({"rate": 0.7}, "a rate of 0.5 at most"),
        ({"rate": 1.0}, "in \\(0, 1\\)"),
        ({"first_rate": 0.0}, "first_rate"),
        ({"kl": "fit"}, "kl must be one of"),
        ({"log_alpha_bounds": (-8.0, 2.0)}, "kl='exact'"),
        ({"noise_lr": 0.0}, "noise_lr"),
        ({"sampling": "none"}, "sampling"),
    ],
)
def test_settings_outside_their_bounds_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        VariationalDropout(**settings)


@pytest.mark.parametrize("noise", ["A", "B"])
def test_the_exact_kl_can_take_the_polynomials_place(noise: Any) -> None:
    net = prepared(VariationalDropout(noise, "unit", kl="exact"))
    with torch.no_grad():
        wanted = sum(kl_divergence(q, LogUniform(exact=True)).sum() for q in posteriors_of(net).values())
    assert laconic.penalty(net).item() == pytest.approx(float(wanted) / 100, rel=1e-5)
