"""Structured Bayesian pruning: the penalty by hand, thresholds, multipliers by cost, units end to end."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

import laconic
from laconic.errors import InputError, ScaleError
from laconic.methods import Context, GridChoice, Judge, Score, StructuredBayesianPruning
from laconic.methods.gated_units import gated_groups, macs_by_unit
from laconic.methods.gating import gates_of
from laconic.prepared import prepared
from laconic.schedules import WarmUp
from tests.helpers.five_networks import FIVE
from tests.helpers.method_suite import digits

QUICK = {"warm_up": WarmUp(0.0, 0.5), "kl_weight": 20.0, "init_log_sigma": -2.0, "tried_thresholds": (2.0,)}
FINE = GridChoice(steps=(1e-5,), prices=(0.0,), bias_bits=(24,))


def made(method: StructuredBayesianPruning, network: str = "plain") -> nn.Module:
    return laconic.prepare(FIVE[network](), method, digits()[0][:2], data_size=1000, seed=0)


def at(net: nn.Module, epochs: float) -> Context:
    return replace(prepared(net, "test").context, terms=round(1000 * epochs))


def kl(mu: float, log_sigma: float, low: float = -20.0, high: float = 0.0) -> float:
    """The paper's KL of a truncated log-normal to a log-uniform on the same interval, by a sum over log z."""
    sigma, steps = math.exp(log_sigma), 200_000
    width = (high - low) / steps
    points = [low + (k + 0.5) * width for k in range(steps)]
    logs = [-0.5 * ((t - mu) / sigma) ** 2 for t in points]
    mass = sum(math.exp(v) for v in logs) * width
    return sum(math.exp(v) / mass * (v - math.log(mass) + math.log(high - low)) for v in logs) * width


def test_the_penalty_is_the_weighted_kl_of_all_units() -> None:
    net = made(StructuredBayesianPruning(kl_weight=3.0, warm_up=WarmUp(0.0, 2.0), init_log_sigma=-1.0))
    method = StructuredBayesianPruning(kl_weight=3.0, warm_up=WarmUp(0.0, 2.0), init_log_sigma=-1.0)
    units = sum(gate.mu.numel() for gate in gates_of(net).values())
    wanted = 3.0 * 0.5 * units * kl(0.0, -1.0)
    assert units == 18 and method.penalty(net, at(net, 1.0)).item() == pytest.approx(wanted, rel=1e-4)
    assert method.unfinished(at(net, 1.0)) and not method.unfinished(at(net, 2.0))


def test_multipliers_follow_the_cost_of_a_unit() -> None:
    plain, costly = StructuredBayesianPruning(), StructuredBayesianPruning(by_macs=1.0)
    net = made(costly)
    # a channel of conv: 16 places x 9 weights, and 16 x 12 weights of the next layer; a hidden unit: 96 + 10
    assert macs_by_unit(net) == {"conv.weight:0": 16 * 9 + 16 * 12, "hidden.weight:0": 96 + 10}
    each = gates_of(net)["conv.weight:0"].penalty()[0].item()
    mean = (6 * 336 + 12 * 106) / 18
    factors = (6 * 336 + 12 * 106) / mean
    warm = at(net, 5.0)
    assert costly.penalty(net, warm).item() == pytest.approx(each * factors, rel=1e-5)
    assert plain.penalty(net, warm).item() == pytest.approx(each * 18, rel=1e-5)
    costly.penalty(net, warm).backward()
    gradients = [gate.log_sigma.grad for gate in gates_of(net).values()]
    assert gradients[0][0].item() == pytest.approx(gradients[1][0].item() * 336 / 106, rel=1e-4)


def test_the_noise_learns_faster_and_is_clipped() -> None:
    method = StructuredBayesianPruning(noise_lr=10.0, clip=(-6.0, 1.0))
    net = made(method)
    weights, noise = laconic.param_groups(net, 1e-3)
    assert noise["lr"] == pytest.approx(1e-2) and noise["weight_decay"] == 0.0 and weights["lr"] == 1e-3
    assert sum(p.numel() for p in noise["params"]) == 2 * 18
    with torch.no_grad():
        noise["params"][0].fill_(-30.0), noise["params"][1].fill_(7.0)
    laconic.step(net, terms=1)
    assert float(noise["params"][0].min()) == -6.0 and float(noise["params"][1].max()) == 1.0


def noisy(net: nn.Module) -> None:
    """Ratios of signal to noise of the 12 hidden units: 4 below 1, 4 between 1 and 2, 4 far above."""
    gate = gates_of(net)["hidden.weight:0"]
    with torch.no_grad():
        gate.mu.copy_(torch.tensor([-8.0] * 4 + [-2.0] * 4 + [0.0] * 4))
        gate.log_sigma.copy_(torch.tensor([1.0] * 4 + [-0.4] * 4 + [-5.0] * 4))
        ratio = gate.signal_to_noise()
    assert float(ratio[:4].max()) < 1 < float(ratio[4:8].min()) and float(ratio[4:8].max()) < 2 < float(
        ratio[8]
    )


def test_the_threshold_is_chosen_on_validation() -> None:
    method = StructuredBayesianPruning(tried_thresholds=(2.0, 1e6), max_drop=1.0, grid=None)
    net = made(method)
    noisy(net)

    def errors(at_two: float) -> Judge:
        """The error by the number of hidden units that are left: 8 at threshold 1, 4 at 2, one above."""

        def evaluate(network: nn.Module) -> Score:
            left = int((network.head.weight != 0).any(0).sum())
            return Score({8: 5.0, 4: at_two}.get(left, 90.0), 0.1, 100)

        return Judge(evaluate)

    context = prepared(net, "test").context
    for at_two, threshold, left in ((5.9, 2.0, 4), (6.1, 1.0, 8)):
        small = method.convert(net.eval(), context, errors(at_two))
        assert small.facts["threshold"] == threshold and small.module.head.in_features == left
        assert small.module.conv.out_channels == 6  # no channel is noisy
        assert small.facts["macs_before"] - small.facts["macs_after"] == (12 - left) * 106
    assert method.convert(net, context).facts["threshold"] == 1.0


def test_a_result_with_all_its_units_says_so() -> None:
    net = made(StructuredBayesianPruning(grid=None))
    (said,) = (note for note in laconic.convert(net.eval()).facts["notes"] if "no unit" in note)
    assert said.startswith("no unit was removed (conv 6") and "Cure: a higher threshold, or longer" in said
    net = made(StructuredBayesianPruning(grid=None))
    noisy(net)
    assert not any("no unit" in note for note in laconic.convert(net.eval()).facts.get("notes", ()))


@pytest.mark.parametrize("network", FIVE)
def test_the_small_network_computes_what_the_gated_one_does(network: str) -> None:
    """With units of no noise to speak of, and closed ones that add next to nothing, the outputs are equal."""
    net = made(StructuredBayesianPruning(grid=FINE), network)
    with torch.no_grad():
        for gate in gates_of(net).values():
            gate.log_sigma[0], gate.mu[0] = (
                3.0,
                -20.0,
            )  # as good as the prior: E[z] = 0.05, far below its noise
            gate.mu[1:] = torch.linspace(-0.5, -0.1, len(gate.mu) - 1)
    small = laconic.convert(net.eval())
    groups = gated_groups(net)[0].groups
    assert all(small.facts["kept_units"][g.name] == list(range(1, g.size)) for g in groups)
    assert small.facts["macs_after"] < small.facts["macs_before"] and small.architecture_changed
    with torch.no_grad():
        for gate in gates_of(net).values():
            gate.log_sigma[0] = -5.0  # now E[z] = 2e-9: closed in the gated network, too
        wanted, got = net(digits()[0][:32]), small.module(digits()[0][:32])
    assert torch.allclose(got, wanted, atol=1e-4 * float(wanted.abs().max()))


def test_what_is_refused() -> None:
    for settings, text in (
        ({"threshold": -1.0}, "ratios of signal to noise"),
        ({"tried_thresholds": (math.nan,)}, "ratios of signal to noise"),
        ({"kl_weight": 0.0}, "the KL alone removes units"),
        ({"noise_lr": 0.0}, "noise_lr must be > 0"),
        ({"init_log_sigma": 6.0}, "init_log_sigma inside clip"),
        ({"low": 0.0}, "low must be below high"),
        ({"by_macs": -1.0}, "by_macs and max_drop"),
    ):
        with pytest.raises(InputError, match=rf"{text}.*Cure: "):
            StructuredBayesianPruning(**settings)
    alone = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(InputError, match="Sequential has no group of units that could be removed.*Cure: "):
        laconic.prepare(alone, StructuredBayesianPruning(), digits()[0][:2], data_size=10)
    with pytest.raises(ScaleError, match="looks like 1/data_size"):
        made(StructuredBayesianPruning(kl_weight=0.001))
