"""Automatic relevance determination of inputs: its penalty by brute force, the inputs that go, bad groups."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

import laconic
from laconic.bayes.prepare import posteriors_of
from laconic.errors import InputError
from laconic.methods import Score, UnitChoice
from laconic.methods.contract import Judge
from laconic.methods.input_ard import InputARD, relevance
from laconic.schedules import WarmUp
from laconic.testing import check_method

QUICK = {"warm_up": WarmUp(0.0, 0.5), "units": UnitChoice(tries=4, per_group=False)}


def dense() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1))


class Series(nn.Module):
    """A recurrent network of four channels."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(4, 3, batch_first=True), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(x)[0][:, -1])


def prepared(net: nn.Module, example: torch.Tensor, terms: int = 100, **settings) -> nn.Module:
    return laconic.prepare(net, InputARD(**{**QUICK, **settings}), example, data_size=terms)


def test_the_method_suite_on_a_network_whose_pixels_can_go(tmp_path: Path) -> None:
    small = check_method(InputARD(**QUICK, threshold=0.3), folder=tmp_path)
    assert list(small.facts["inputs_before"].values()) == [64]


def test_the_penalty_is_the_kl_at_the_best_prior() -> None:
    """No other variance of a group's prior gives less, and the best one gives the penalty."""
    net = prepared(dense(), torch.zeros(1, 6), groups=((0, 1, 2),), warm_up=WarmUp(0.0, 0.0))
    (q,) = posteriors_of(net).values()
    with torch.no_grad():
        q.log_var.uniform_(-4.0, 0.0, generator=torch.Generator().manual_seed(1))
    mean, variance = (t.detach().double() for t in q.moments())

    def kl(columns: list[int], prior: torch.Tensor) -> torch.Tensor:
        mine = torch.distributions.Normal(mean[:, columns], variance[:, columns].sqrt())
        return torch.distributions.kl_divergence(mine, torch.distributions.Normal(0.0, prior.sqrt())).sum()

    best = 0.0
    for columns in ([0, 1, 2], [3], [4], [5]):
        tried = torch.logspace(-3, 1, 4001, dtype=torch.float64)
        best += min(float(kl(columns, prior)) for prior in tried[::40])
    found = laconic.penalty(net).item() * 100
    assert found <= best + 1e-4
    assert found == pytest.approx(best, rel=1e-2)


def test_the_precision_is_mackays_fixed_point() -> None:
    net = prepared(dense(), torch.zeros(1, 6))
    (q,) = posteriors_of(net).values()
    mean, variance = (t.detach() for t in q.moments())
    alpha = 5 / (mean.square() + variance).sum(0)
    gamma = 5 - alpha * variance.sum(0)
    torch.testing.assert_close(alpha, gamma / mean.square().sum(0))
    torch.testing.assert_close(relevance(net)["0.weight:1"], gamma / 5)


def test_inputs_that_tell_nothing_go_and_the_file_takes_the_whole_input() -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(256, 6, generator=draw)
    y = torch.tanh(2 * x[:, :1]) + x[:, 4:5]
    net = prepared(dense(), x[:2], 256, noise_lr=3.0, warm_up=WarmUp(0.0, 0.0))
    optimiser = torch.optim.Adam(laconic.param_groups(net, 0.03))
    for _ in range(300):
        optimiser.zero_grad()
        nll = (0.5 * ((net(x) - y) / 0.1).square()).mean()
        (nll + laconic.penalty(net)).backward()
        optimiser.step()
        laconic.step(net, terms=256)

    def evaluate(plain: nn.Module) -> Score:
        with torch.no_grad():
            error = float((plain(x) - y).square().mean())
        return Score(100 * error, 0.5 * error / 0.01, 256)

    shares = relevance(net)["0.weight:1"]
    assert shares[[0, 4]].min() > 5 * shares[[1, 2, 3, 5]].max()
    small = laconic.convert(net, Judge(evaluate))
    assert small.facts["inputs_left"] == {"0.weight:1": [0, 4]}
    changed = x.clone()
    changed[:, [1, 2, 3, 5]] = 7.0
    assert torch.equal(small.module(x), small.module(changed))


@pytest.mark.parametrize("kind", ["recurrent", "images"])
def test_groups_of_channels_go_together(kind: str) -> None:
    if kind == "recurrent":
        net, x, name = Series(), torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(0)), "gru"
    else:
        net = nn.Sequential(nn.Conv2d(4, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 2))
        x, name = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0)), "0"
    net = prepared(net, x, groups=((0, 2), (1, 3)))
    (q,) = posteriors_of(net).values()
    with torch.no_grad():
        q.mean[:, [1, 3]] *= 1e-4
    small = laconic.convert(net)
    (left,) = small.facts["inputs_left"].values()
    assert left == [0, 2] and name in next(iter(small.facts["inputs_left"]))
    assert small.module(x).shape == (2, 2)


def test_bad_groups_are_named() -> None:
    with pytest.raises(InputError, match="each index from 0 once"):
        InputARD(groups=((0, 1), (1, 2)))
    with pytest.raises(InputError, match="tear groups apart"):
        InputARD(groups=((0, 1),), units=UnitChoice())
    with pytest.raises(InputError, match=r"groups\[0\] is \[0, 9\]"):
        prepared(dense(), torch.zeros(1, 6), groups=((0, 9),))
    with pytest.raises(InputError, match="threshold"):
        InputARD(threshold=math.inf)


def test_a_network_whose_inputs_must_stay_is_quantised_with_a_warning() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2))
    with pytest.warns(UserWarning, match="no input of Sequential can be removed"):
        wide = prepared(net, torch.zeros(2, 1, 4, 4))
    assert laconic.convert(wide).facts["inputs_left"] == {}
