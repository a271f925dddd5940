"""Bayesian compression: the objective by hand, what goes, and what its record says."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import laconic
from laconic.bayes import posteriors_of
from laconic.errors import InputError, ModelError
from laconic.methods import Judge, Score, gates_of
from laconic.methods.bayesian_compression import BayesianCompression
from laconic.methods.common.unit_choice import UnitChoice
from laconic.schedules import WarmUp
from laconic.testing import check_method
from tests.helpers.method_suite import digits, train

QUICK = {"warm_up": WarmUp(0.0, 0.5), "units": UnitChoice(tries=4, per_group=False)}


class Flat(nn.Module):
    """A convolution whose channels a linear layer reads at nine positions each."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 6, 3, 2), nn.BatchNorm2d(6)
        self.hidden, self.head = nn.Linear(54, 12), nn.Linear(12, 10)

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x)))
        return self.head(torch.relu(self.hidden(x.flatten(1))))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, 10, batch_first=True), nn.Linear(10, 10)

    def forward(self, x):
        return self.head(self.lstm(x.flatten(1).view(-1, 8, 8))[0][:, -1])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 12)
        self.layer = nn.TransformerEncoderLayer(12, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(12, 10)

    def forward(self, x):
        return self.head(self.layer(self.embed(x.flatten(1).view(-1, 8, 8))).mean(1))


def built(kind):
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return kind()


def prepared(method, kind=Flat, **settings):
    x, _ = digits()
    return laconic.prepare(built(kind), method, x[:2], data_size=len(x), **settings)


def judged(net, allowed=0.5):
    """A judge by the digits that were trained on, which accepts a loss of nats up to a share."""
    x, y = digits()

    def evaluate(plain):
        with torch.no_grad():
            out = plain(x)
        error = 100 * (out.argmax(1) != y).double().mean().item()
        return Score(error, nn.functional.cross_entropy(out, y).item(), len(y))

    return Judge(evaluate)


@pytest.mark.parametrize("scales", ["normal-jeffreys", "horseshoe"])
@pytest.mark.parametrize("kind", [Flat, Recurrent, Attention])
def test_the_method_suite(kind, scales, tmp_path):
    small = check_method(BayesianCompression(scales, **QUICK), lambda: built(kind), tmp_path)
    assert all(np.isfinite(t.values()).all() for t in small.tensors.values())


def test_the_penalty_is_the_sum_of_all_kls():
    """At the start: weights of variance e^-9 under N(0, c^2), gates of mean 1 and variance e^-9."""
    method = BayesianCompression(kl_weight=0.5, warm_up=WarmUp(0.0, 0.0), bias_std=2.0)
    net = prepared(method)
    variance, wanted = math.exp(-9.0), 0.0
    plain = built(Flat)
    for name, parameter in plain.named_parameters():
        w = parameter.detach()
        if w.ndim > 1:
            c = w.square().mean().item()
            wanted += 0.5 * float(((variance + w.square()) / c - 1 - math.log(variance / c)).sum())
        elif name.endswith("bias"):
            wanted += 0.5 * float(w.square().sum()) / 4.0
    # Molchanov's fit at log alpha = -9
    sigmoid = 1 / (1 + math.exp(-(1.8732 + 1.48695 * -9.0)))
    each = 0.63576 - 0.63576 * sigmoid + 0.5 * math.log1p(math.exp(9.0))
    sizes = {name: len(g.mean) for name, g in gates_of(net).items()}
    assert sizes == {"conv.weight:0": 6, "hidden.weight:0": 12, "positions of hidden.weight": 54}
    wanted += each * sum(sizes.values())
    assert float(laconic.penalty(net)) * len(digits()[0]) == pytest.approx(0.5 * wanted, rel=1e-4)


def test_a_scale_of_the_weights_prior_is_a_unit_of_the_gates():
    """BC-GNJ has no unit: z and c multiplied and divided by 3 give the same KL, whatever the layer."""
    net = prepared(BayesianCompression(warm_up=WarmUp(0.0, 0.0), weight_std=1.0))
    other = prepared(BayesianCompression(warm_up=WarmUp(0.0, 0.0), weight_std=3.0))
    with torch.no_grad():
        for gate in gates_of(other).values():
            gate.mean.div_(3.0)
            gate.log_var.sub_(2 * math.log(3.0))
        for q in posteriors_of(other).values():
            q.mean.mul_(3.0)
            q.log_var.add_(2 * math.log(3.0))
    assert float(laconic.penalty(other)) == pytest.approx(float(laconic.penalty(net)), rel=1e-4)
    gated = {"hidden.weight": 2, "head.weight": 1}  # how many gates multiply each
    assert set(gated) < set(posteriors_of(net))


@pytest.mark.parametrize("scales", ["normal-jeffreys", "horseshoe"])
def test_units_that_are_noise_are_removed(scales):
    """Three channels of six, five positions of another channel and half of the hidden units."""
    net = train(built(Flat), BayesianCompression(scales, **QUICK))
    with torch.no_grad():
        for gate in gates_of(net).values():
            location = gate.mean if scales == "normal-jeffreys" else gate.a_mean
            spread = gate.log_var if scales == "normal-jeffreys" else gate.a_log_var
            gone = {6: [0, 2, 5], 12: list(range(6)), 54: list(range(9, 14))}[len(location)]
            location[gone] = 1e-3 if scales == "normal-jeffreys" else -30.0
            spread[gone] = 2.0
    small = laconic.convert(net, judged(net))
    module = small.module
    assert not any("no unit was removed" in note for note in small.facts.get("notes", ()))
    assert module.conv.out_channels <= 3 and module.norm.num_features == module.conv.out_channels
    assert module.hidden.in_features == 9 * module.conv.out_channels and module.hidden.out_features <= 6
    columns = (module.hidden.weight != 0).any(0)
    assert int((~columns).sum()) >= 5, "positions that go are columns of zeros"
    facts = small.facts
    dense = 9 * module.conv.out_channels + facts["units"]["hidden"][1] * 10
    assert facts["weights_left_dense"] < dense + int(columns.sum()) * module.hidden.out_features + 1
    assert facts["pruning_factor"] == pytest.approx(822 / facts["weights_left_dense"])
    assert set(facts["posterior_bits"]) == {"conv.weight", "hidden.weight", "head.weight"}


def test_a_judge_that_allows_nothing_keeps_all_units():
    net = train(built(Flat), BayesianCompression(**QUICK))
    whole = {n: p.shape for n, p in built(Flat).named_parameters()}

    def picky(plain):
        zeros = sum(int((p == 0).sum()) for n, p in plain.named_parameters() if n.endswith("weight"))
        return Score(float(zeros > 0), 1.0 + zeros, 100)

    small = laconic.convert(net, Judge(picky))
    assert {n: p.shape for n, p in small.module.named_parameters()} == whole
    said = [note for note in small.facts["notes"] if note.startswith("no unit was removed (conv 6")]
    assert len(said) == 1 and "Cure: a higher kl_weight, a higher units.max_drop, or longer" in said[0]


def test_the_first_layer_is_held_below_a_share_of_its_prior():
    net = prepared(BayesianCompression(first_variance=0.04, init_log_var=-1.0))
    laconic.penalty(net)
    first, second, _ = posteriors_of(net).values()
    laconic.step(net, 1)
    c = built(Flat).conv.weight.square().mean().item()
    assert first.log_var.max().item() == pytest.approx(math.log(0.04 * c), rel=1e-4)
    assert second.log_var.max().item() == -1.0


def test_log_variances_and_scales_have_rates_of_their_own():
    net = prepared(BayesianCompression(noise_lr=5.0, gate_lr=3.0))
    groups = laconic.param_groups(net, lr=0.1)
    assert [round(g["lr"], 6) for g in groups] == [0.1, 0.3, 0.5]
    counts = [sum(p.numel() for p in g["params"]) for g in groups]
    weights, gates = 822, 72
    assert counts[1:] == [gates, weights + gates]
    assert sum(counts) == sum(p.numel() for p in net.parameters())


def test_pixels_may_go():
    net = train(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), BayesianCompression(**QUICK))
    with torch.no_grad():
        (gate,) = gates_of(net).values()
        gate.mean[:40] = 1e-3
        gate.log_var[:40] = 1.0
    small = laconic.convert(net)
    assert small.module.kept(0).tolist() == list(range(40, 64))
    assert {t.name for t in small.tensors.values()} >= {"input0_gaps", "1.weight"}
    assert small.tensors["1.weight"].shape == (10, 24)


def test_a_network_without_coupled_groups_is_refused():
    class Sums(nn.Module):
        def __init__(self):
            super().__init__()
            self.only = nn.Linear(1, 3)

        def forward(self, x):
            return self.only(x.sum((1, 2, 3))[:, None])

    with pytest.raises(ModelError, match="no group of coupled units.*Cure: a method that decides by weight"):
        laconic.prepare(Sums(), BayesianCompression(), digits()[0][:2], data_size=100)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"scales": "jeffreys"}, "scales must be one of normal-jeffreys, horseshoe, got 'jeffreys'"),
        ({"noise_lr": 0.0}, "noise_lr and gate_lr must be > 0, got 0.0"),
        ({"tau": 0.0}, "tau must be finite and > 0, got 0.0"),
        ({"first_variance": -1.0}, "first_variance must be finite and > 0"),
        ({"init_log_var": 9.0}, "init_log_var must lie inside log_var_bounds"),
    ],
)
def test_settings_that_cannot_be(settings, said):
    with pytest.raises(InputError, match=said):
        BayesianCompression(**settings)


def test_choices_that_cannot_be():
    with pytest.raises(InputError, match="tries must be >= 1"):
        UnitChoice(tries=0)
    with pytest.raises(InputError, match="max_nll_ratio >= 1"):
        UnitChoice(max_nll_ratio=0.9)
