"""Batch norm after training with noise: statistics taken anew at the mean, where validation prefers them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import laconic
from laconic.bayes import NoiseSource
from laconic.methods import L0, VNQ, Context, Judge, Method, Score, SparseVD, StructuredBayesianPruning
from laconic.methods.common.norms import better_norms
from laconic.schedules import WarmUp
from tests.helpers.method_suite import digits

X, Y = digits()
BATCHES = list(zip(X.split(64), Y.split(64), strict=True))
AT_ONCE = WarmUp(0.0, 0.0)


def judge() -> Judge:
    """The error and the likelihood on the digits themselves."""

    def evaluate(network: nn.Module) -> Score:
        with torch.no_grad():
            logits = network(X)
        wrong = float((logits.argmax(1) != Y).float().mean())
        return Score(100 * wrong, float(F.cross_entropy(logits, Y)), len(Y))

    return Judge(evaluate)


def trained() -> nn.Sequential:
    """A network with a batch norm that knows its digits."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 24, bias=False), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 10)
        )
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(net(X), Y).backward()
        optimizer.step()
    return net.eval()


def spoiled(factor: float) -> tuple[nn.Sequential, nn.BatchNorm1d]:
    """A trained network whose running variance is too large, and its batch norm."""
    net = trained()
    norm = net[2]
    assert isinstance(norm, nn.BatchNorm1d) and norm.running_var is not None
    norm.running_var.mul_(factor)
    return net, norm


def context(batches: Any = BATCHES) -> Context:
    return Context(len(X), NoiseSource(0), batches=None if batches is None else lambda: batches)


def test_statistics_of_noise_are_taken_anew() -> None:
    net, norm = spoiled(100.0)
    before = norm.running_var.clone()
    facts = better_norms(net, context(), judge())
    assert facts["norm_batches"] == 3 and 60 < facts["norm_variance_ratio"] < 200
    assert facts["norm_nll"][1] < 0.3 * facts["norm_nll"][0]
    assert float((norm.running_var / before).max()) < 0.05
    assert judge().evaluate(net).nll == pytest.approx(facts["norm_nll"][1])


def test_statistics_stay_where_new_ones_are_worse() -> None:
    net, norm = spoiled(1.0)
    before = [norm.running_mean.clone(), norm.running_var.clone()]
    elsewhere = [(5 * x + 3, y) for x, y in BATCHES]  # training batches unlike the validation split
    facts = better_norms(net, context(elsewhere), judge())
    assert facts["norm_batches"] == 0 and facts["norm_nll"][1] > facts["norm_nll"][0]
    assert torch.equal(norm.running_mean, before[0]) and torch.equal(norm.running_var, before[1])
    unjudged = better_norms(net, context(elsewhere), None)  # nothing says that they are worse
    assert unjudged["norm_batches"] == 3 and not torch.equal(norm.running_var, before[1])


def test_nothing_to_take() -> None:
    assert better_norms(spoiled(9.0)[0], context(None), judge()) == {}
    assert better_norms(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), context(), judge()) == {}


@pytest.mark.parametrize(
    ("method", "noise", "ratio"),
    [
        (SparseVD(warm_up=AT_ONCE, init_log_var=-1.0, threshold=20.0), "log_var", 5),
        (VNQ.evenly(15, warm_up=AT_ONCE, init_log_var=0.9, init_scale=1.2, threshold=None), "log_var", 5),
        (
            StructuredBayesianPruning(warm_up=AT_ONCE, init_log_sigma=0.5, threshold=0.0, inputs=True),
            "log_sigma",
            1.4,  # one draw a pass: the variance within a batch is that of scaled units
        ),
        (L0(open_probability=0.5, gates="weights"), "log_alpha", 1.4),
    ],
    ids=["sparse-vd", "vnq", "structured-bayesian-pruning", "l0"],
)
def test_every_method_that_samples_takes_them_anew(method: Method, noise: str, ratio: float) -> None:
    """Passes in training mode move the running variance to that of the noise; convert repairs it."""
    net = laconic.prepare(trained(), method, X[:2], data_size=len(X), seed=0, batches=BATCHES)
    assert any(name.endswith(noise) for name in net.state_dict())
    net.train()
    with torch.no_grad():
        for _ in range(60):
            net(X)
    context_of = laconic.prepared.prepared(net, "test").context
    small = method.convert(net.eval(), context_of, judge())
    assert small.facts["norm_batches"] == 3 and small.facts["norm_variance_ratio"] > ratio
    assert small.facts["norm_nll"][1] < small.facts["norm_nll"][0]
    hidden = [m for m in small.module.modules() if isinstance(m, nn.BatchNorm1d)][0]
    seen: list[torch.Tensor] = []
    hidden.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    with torch.no_grad():
        small.module(X)
    variance = seen[0].var(0)
    assert float((hidden.running_var / variance.clamp_min(1e-3)).max()) < 2
