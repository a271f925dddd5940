"""Batch norm's statistics under changed weights; VNQ on a depthwise network that is converted early."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import laconic
from laconic.bayes import NoiseSource
from laconic.data import load, split
from laconic.methods import VNQ, Context
from laconic.methods.norm_statistics import estimate_norm_statistics
from laconic.networks import duplicate

X = torch.randn(96, 1, 6, 6, generator=torch.Generator().manual_seed(0)) * 2 + 1
BATCHES = [(X[k : k + 32], torch.zeros(32).long()) for k in (0, 32, 64)]


def context(batches: Any = BATCHES, **settings: Any) -> Context:
    return Context(96, NoiseSource(0), batches=None if batches is None else lambda: batches, **settings)


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(48, 2)
        )


def test_the_statistics_are_the_means_over_the_batches() -> None:
    net = network()
    assert estimate_norm_statistics(net, context()) == 3
    with torch.no_grad():
        outputs = [net[0](x) for x, _ in BATCHES]
    mean = torch.stack([o.mean((0, 2, 3)) for o in outputs]).mean(0)
    variance = torch.stack([o.var((0, 2, 3)) for o in outputs]).mean(0)
    assert torch.allclose(net[1].running_mean, mean, atol=1e-6)
    assert torch.allclose(net[1].running_var, variance, rtol=1e-5)
    assert not any(m.training for m in net.modules())
    assert net[1].momentum == 0.1 and int(net[1].num_batches_tracked) == 0


@pytest.mark.parametrize("why", ["no batches", "frozen", "kept", "single examples"])
def test_statistics_that_stay(why: str) -> None:
    net, told = network(), context()
    if why == "no batches":
        told = context(None)
    elif why == "frozen":
        net[1].requires_grad_(False)
    elif why == "kept":
        told = replace(told, policy=told.policy.keeping("1"))
    else:
        told = context([(X[:1], torch.zeros(1).long())])
    before = duplicate(net)
    assert estimate_norm_statistics(net, told) == 0
    assert all(torch.equal(a, b) for a, b in zip(net.buffers(), before.buffers(), strict=True))


def depthwise() -> nn.Module:
    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [
            nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False),
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        ]

    first = [nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            *first,
            *block(8, 12),
            nn.MaxPool2d(2),
            *block(12, 12),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(48, 10),
        )


def test_vnq_converted_before_its_warm_up_ends_says_so_and_statistics_help() -> None:
    """A depthwise network on digits, 4 epochs of a 20-epoch warm-up: convert warns, and batches help."""
    part = split(load("digits"), validation=200, seed=0).train
    x, y = part.inputs[:768], part.labels[:768]
    batches = [(x[rows], y[rows]) for rows in torch.arange(768).split(64)]
    model = depthwise()
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for images, labels in batches * 6:
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    def converted(handed: Any) -> laconic.methods.Compressed:
        net = laconic.prepare(model, VNQ(), x[:2], data_size=768, batches=handed)
        trained = torch.optim.Adam(laconic.param_groups(net, 3e-3))
        for batch in batches * 4:
            trained.zero_grad()
            laconic.objective(net, batch).backward()
            trained.step()
            laconic.step(net)
        with pytest.warns(UserWarning, match=r"before the KL's warm-up does \(epoch 20\)"):
            return laconic.convert(net)

    def right(small: laconic.methods.Compressed) -> float:
        return float((small.module(x).argmax(1) == y).float().mean())

    without, given = converted(None), converted(batches)
    assert "norm_batches" not in without.facts and given.facts["norm_batches"] == 12
    assert any("warm-up" in note for note in given.facts["notes"])
    assert right(given) > right(without) + 0.05, (right(without), right(given))
