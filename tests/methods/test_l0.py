"""L0: the expected number of weights by brute force, units and single weights, prices by layer, bad input."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import laconic
from laconic.bayes.prepare import posteriors_of
from laconic.errors import InputError
from laconic.methods import L0, Context, GridChoice
from laconic.methods.gated_units import expected_counts, gated_groups
from laconic.methods.gating import gates_of
from laconic.prepared import prepared
from laconic.records import KeepPlan
from laconic.schedules import WarmUp
from laconic.structure import shrink
from laconic.testing import check_method
from tests.helpers.five_networks import FIVE
from tests.helpers.method_suite import digits

QUICK = {"lambdas": (20.0,), "noise_lr": 100.0, "warm_up": WarmUp(0.0, 0.5)}
FINE = GridChoice(steps=(1e-5,), prices=(0.0,), bias_bits=(24,))


def made(method: L0, network: str = "plain") -> nn.Module:
    return laconic.prepare(FIVE[network](), method, digits()[0][:2], data_size=1000, seed=0)


def at(net: nn.Module, epochs: float) -> Context:
    return replace(prepared(net, "test").context, terms=round(1000 * epochs))


def open_share(log_alpha: float) -> float:
    """P(z != 0), eq. 12 with beta = 2/3, gamma = -0.1, zeta = 1.1."""
    return 1 / (1 + math.exp(-(log_alpha - 2 / 3 * math.log(0.1 / 1.1))))


@pytest.mark.parametrize("network", FIVE)
def test_the_expected_counts_are_those_of_smaller_networks(network: str) -> None:
    """Shares of 0 and 1 count what is left of each weight once the network is shrunk."""
    net, plain = made(L0(), network), FIVE[network]()
    coupling, macs = gated_groups(net)
    kept = {g.name: tuple(range(0, g.size, 2)) for g in coupling.groups}
    plan = KeepPlan(kept, {g.name: g.size for g in coupling.groups})
    shares = {n: torch.tensor([float(u in units) for u in range(plan.sizes[n])]) for n, units in kept.items()}
    counts = expected_counts(net, shares)
    small = {n: p.numel() for n, p in shrink(plain, coupling, plan).named_parameters()}
    for name, count in counts.items():
        if name in small:  # a narrow attention or LSTM may name them otherwise
            assert count.item() == small[name], name
    used = expected_counts(net, shares, macs=True)
    assert sum(used.values()).item() == pytest.approx(macs.total({n: len(u) for n, u in kept.items()}))


def test_the_penalty_by_hand() -> None:
    lambdas = (10.0, 0.5, 0.1)
    method = L0(lambdas, open_probability=0.7, warm_up=WarmUp(0.0, 2.0))
    net = made(method)
    p = open_share(math.log(0.7 / 0.3))
    conv, hidden, head = 6 * p * 9, 12 * p * 6 * p * 16, 10 * 12 * p
    wanted = 0.5 * (10.0 * conv + 0.5 * hidden + 0.1 * head)
    assert method.penalty(net, at(net, 1.0)).item() == pytest.approx(wanted, rel=1e-5)
    macs = replace(method, lambdas=(0.01,), cost="macs", warm_up=WarmUp(0.0, 0.0))
    assert macs.penalty(net, at(net, 0.0)).item() == pytest.approx(
        0.01 * (16 * conv + hidden + head), rel=1e-5
    )
    single = replace(method, gates="weights", warm_up=WarmUp(0.0, 0.0))
    each = made(single)
    wanted = p * (10.0 * 54 + 0.5 * 1152 + 0.1 * 120)
    assert single.penalty(each, at(each, 0.0)).item() == pytest.approx(wanted, rel=1e-5)


def test_a_result_with_all_its_units_says_so() -> None:
    net = made(L0(open_probability=0.9))
    (said,) = (note for note in laconic.convert(net.eval()).facts["notes"] if "no unit" in note)
    assert said.startswith("no unit was removed (conv 6") and said.endswith(
        ". Cure: higher lambdas, or longer training"
    )
    net = made(L0(open_probability=0.9))
    with torch.no_grad():
        next(iter(gates_of(net).values())).log_alpha[1] = -4.0
    assert not any("no unit" in note for note in laconic.convert(net.eval()).facts.get("notes", ()))


@pytest.mark.parametrize("network", FIVE)
def test_closed_units_go_and_the_outputs_stay(network: str) -> None:
    net = made(L0(grid=FINE, open_probability=0.8), network)
    with torch.no_grad():
        for gate in gates_of(net).values():
            gate.log_alpha[1] = -4.0
    small = laconic.convert(net.eval())
    for group in gated_groups(net)[0].groups:
        assert small.facts["kept_units"][group.name] == [u for u in range(group.size) if u != 1]
    with torch.no_grad():
        wanted, got = net(digits()[0][:32]), small.module(digits()[0][:32])
    assert torch.allclose(got, wanted, atol=1e-4 * float(wanted.abs().max()))
    assert laconic.prepared.prepared(net, "test").method.weights_left(net) == {
        n: c.item()
        for n, c in expected_counts(
            net, {n: (g.expectation() > 0).float() for n, g in gates_of(net).items()}
        ).items()
    }


@pytest.mark.parametrize("network", ["residual", "recurrent"])
def test_single_weights(network: str) -> None:
    """The suite, and gates that close: exact zeros, the rest as in evaluation mode."""
    small = check_method(L0(gates="weights", **QUICK), FIVE[network])
    assert not small.architecture_changed
    net = made(L0(gates="weights", grid=FINE, open_probability=0.8), network)
    kept = {}
    for name, q in posteriors_of(net).items():
        kept[name] = torch.rand(q.mean.shape, generator=torch.Generator().manual_seed(1)) > 0.4
        with torch.no_grad():
            q.log_alpha[~kept[name]] = -4.0
    small = laconic.convert(net.eval())
    for name, mask in kept.items():
        zero = small.module.get_parameter(name) == 0
        assert bool(zero[~mask].all()) and float(zero[mask].float().mean()) < 0.02
        assert np.array_equal(small.tensors[name].values() == 0, zero.numpy())
    with torch.no_grad():
        wanted, got = net(digits()[0][:32]), small.module(digits()[0][:32])
    assert torch.allclose(got, wanted, atol=1e-3 * float(wanted.abs().max()))


def test_gates_move_at_their_rate_and_inside_their_bounds() -> None:
    for gates in ("units", "weights"):
        net = made(L0(gates=gates, noise_lr=5.0))  # type: ignore[arg-type]
        weights, noise = laconic.param_groups(net, 1e-3)
        assert noise["lr"] == pytest.approx(5e-3) and noise["weight_decay"] == 0.0
        assert sum(p.numel() for p in noise["params"]) == {"units": 18, "weights": 54 + 1152 + 120}[gates]
        with torch.no_grad():
            noise["params"][0].fill_(9.0), noise["params"][1].fill_(-9.0)
        laconic.step(net, terms=1)
        ends = [float(p.mean()) for p in noise["params"][:2]]
        assert ends == pytest.approx([math.log(100), math.log(0.01)])


def test_what_is_refused() -> None:
    for settings, text in (
        ({"lambdas": ()}, "lambdas are nats"),
        ({"lambdas": (0.0, 0.0)}, "lambdas are nats"),
        ({"lambdas": (-1.0,)}, "lambdas are nats"),
        ({"gates": "layers"}, "gates is 'units' or 'weights'"),
        ({"gates": "weights", "cost": "macs"}, "are of units"),
        ({"open_probability": 1.0}, "open_probability in"),
        ({"open_probability": 0.999}, "inside log_alpha_bounds"),
    ):
        with pytest.raises(InputError, match=rf"{text}.*Cure: "):
            L0(**settings)
    for gates in ("units", "weights"):
        with pytest.raises(
            InputError, match=r"lambdas has 2 numbers, the network has 3 .*conv.weight.*Cure: "
        ):
            made(L0((1.0, 2.0), gates=gates))  # type: ignore[arg-type]
