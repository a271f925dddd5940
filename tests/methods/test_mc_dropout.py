from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import laconic
from laconic.bayes import NoiseSource, posteriors_of, sampling
from laconic.errors import InputError
from laconic.methods import MCDropout
from laconic.zoo import DigitsMLP
from tests.helpers.method_suite import digits, train


def model() -> nn.Module:
    return DigitsMLP(hidden=16, generator=torch.Generator().manual_seed(1))


def prepared(method: MCDropout) -> nn.Module:
    return laconic.prepare(model(), method, digits()[0][:2], data_size=200, seed=0)


def test_the_penalty_is_gals_weight_decay() -> None:
    net = prepared(MCDropout(rate=0.5, first_rate=0.2, prior_std=2.0))
    first, second = (q.expectation() for q in posteriors_of(net).values())
    # l^2 / 2 * keep * |M|^2 with l = 1/2 and the weights theta = keep * M
    wanted = 0.125 * (0.8 * (first / 0.8).square().sum() + 0.5 * (second / 0.5).square().sum())
    assert laconic.penalty(net).item() == pytest.approx(wanted.item() / 200, rel=1e-5)
    assert laconic.penalty(prepared(MCDropout(prior_std=None))).item() == 0.0


@pytest.mark.parametrize("noise", ["bernoulli", "gaussian"])
def test_the_penalty_is_the_expected_squared_weight(noise: Any) -> None:
    net = prepared(MCDropout(noise=noise))
    source, draws = NoiseSource(1), 400
    squares = sum(q.rsample(source).square().sum() for q in posteriors_of(net).values() for _ in range(draws))
    # 80 factors of variance 1/4 or 1: the mean of 400 draws of their squares is within 6 %
    assert laconic.penalty(net).item() == pytest.approx(float(squares.detach()) / draws / 400, rel=0.06)


@pytest.mark.parametrize("noise", ["bernoulli", "gaussian"])
def test_passes_differ_in_sampled_evaluation_and_their_spread_is_larger_off_the_data(noise: Any) -> None:
    net = prepared(MCDropout(rate=0.2, first_rate=0.1, noise=noise))
    x, y = digits()
    optimizer = torch.optim.Adam(laconic.param_groups(net, lr=1e-2))
    net.train()
    for _ in range(80):
        optimizer.zero_grad()
        laconic.objective(net, (x, y)).backward()
        optimizer.step()
        laconic.step(net)
    net.eval()
    assert torch.equal(net(x), net(x))
    strange = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) * x.max()
    seen, unseen = laconic.predict(net, x, samples=30), laconic.predict(net, strange, samples=30)
    assert float(unseen.mutual_information.mean()) > float(seen.mutual_information.mean()) > 0.0
    with sampling(net, NoiseSource(0)), torch.no_grad():
        by_hand = torch.stack([F.softmax(net(x), -1) for _ in range(30)])
    assert torch.allclose(seen.mean, by_hand.mean(0), atol=1e-5)


def test_rates_are_fixed_and_the_result_has_no_noise() -> None:
    net = train(model(), MCDropout())
    assert [float(q.spread()[0].exp()) for q in posteriors_of(net).values()] == pytest.approx([0.25, 1.0])
    small = laconic.convert(net)
    assert type(small.module) is DigitsMLP and small.facts["rate"] == 0.5
    assert torch.allclose(small.module.fc2.weight, net.get_parameter("fc2.weight"), atol=0.05)


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"rate": 0.0}, "rate"), ({"noise": "none"}, "noise"), ({"prior_std": 0.0}, "prior_std=1")],
)
def test_settings_outside_their_bounds_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        MCDropout(**settings)
