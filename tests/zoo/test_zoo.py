"""Reference networks: published sizes, shapes, and weights that a generator decides."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from laconic.errors import InputError, ModelError
from laconic.zoo import (
    DigitsCNN,
    DigitsLSTM,
    DigitsMLP,
    DigitsResNet,
    LeNet5,
    LeNet300,
    ResNet20,
    TrainRecipe,
    initialise,
)
from laconic.zoo.resnet import BasicBlock

NETWORKS = [
    (LeNet300, 266_610, (1, 28, 28)),
    (LeNet5, 431_080, (1, 28, 28)),
    (ResNet20, 269_722, (3, 32, 32)),
    (DigitsMLP, 4_810, (1, 8, 8)),
    (DigitsCNN, 10_370, (1, 8, 8)),
    (DigitsResNet, 4_962, (1, 8, 8)),
    (DigitsLSTM, 3_514, (1, 8, 8)),
]
each_network = pytest.mark.parametrize(
    ("build", "count", "shape"), NETWORKS, ids=lambda v: getattr(v, "__name__", "")
)
Build = Callable[..., nn.Module]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@each_network
def test_size_and_shape(build: Build, count: int, shape: tuple[int, ...]) -> None:
    net = build(generator=seeded(0)).eval()
    assert sum(p.numel() for p in net.parameters()) == count
    assert net(torch.zeros(3, *shape)).shape == (3, 10)


@each_network
def test_weights_depend_on_the_generator_alone(build: Build, count: int, shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    first = build(generator=seeded(0))
    torch.manual_seed(2)
    second, other = build(generator=seeded(0)), build(generator=seeded(1))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(weights(first), weights(other), strict=True))


@each_network
def test_a_gradient_reaches_every_parameter(build: Build, count: int, shape: tuple[int, ...]) -> None:
    net = build(generator=seeded(0))
    x = torch.rand(8, *shape, generator=seeded(1))
    nn.functional.cross_entropy(net(x), torch.arange(8)).backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in net.parameters())


def weights(net: nn.Module) -> list[nn.Parameter]:
    return [p for p in net.parameters() if p.ndim > 1]


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(50, 40),
        nn.Conv1d(6, 8, 5),
        nn.Conv2d(8, 12, 3, groups=4),
        nn.Conv3d(2, 9, 3),
        nn.LSTM(20, 30),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_the_distribution_is_torchs_own(layer: nn.Module) -> None:
    """Same range and spread as the layer's own; the largest of 200 draws is 5 % short once in 30,000 runs."""
    theirs = [p.detach().clone() for p in layer.parameters()]
    initialise(layer, seeded(0))
    for mine, their in zip([p.detach() for p in layer.parameters()], theirs, strict=True):
        bound = float(their.abs().max())
        assert not torch.equal(mine, their)
        if mine.numel() >= 200:
            assert float(mine.abs().max()) == pytest.approx(bound, rel=0.05)
            assert float(mine.std()) == pytest.approx(bound / math.sqrt(3), rel=0.1)


def test_embedding_and_norm() -> None:
    net = nn.Sequential(nn.Embedding(200, 10, padding_idx=3), nn.LayerNorm(10))
    nn.init.zeros_(net[1].weight)
    initialise(net, seeded(0))
    assert float(net[0].weight.detach().std()) == pytest.approx(1, rel=0.1)
    assert bool((net[0].weight[3] == 0).all())
    assert bool((net[1].weight == 1).all())


def test_no_generator_changes_nothing() -> None:
    layer = nn.Linear(3, 3)
    before = layer.weight.clone()
    initialise(layer, None)
    assert torch.equal(layer.weight, before)


def test_a_layer_without_a_rule_is_named() -> None:
    with pytest.raises(ModelError, match=r"no rule for 1 \(PReLU\)"):
        initialise(nn.Sequential(nn.Linear(2, 2), nn.PReLU()), seeded(0))


def test_the_shortcut_thins_out_and_pads_with_zeros() -> None:
    block = BasicBlock(2, 4, stride=2)
    x = torch.rand(1, 2, 4, 4, generator=seeded(0))
    y = block.shortcut(x)
    assert y.shape == (1, 4, 2, 2)
    assert torch.equal(y[:, 1:3], x[:, :, ::2, ::2])
    assert not bool(y[:, 0].any() or y[:, 3].any())


def test_lenet5_has_its_published_layers() -> None:
    sizes = {name: tuple(p.shape) for name, p in LeNet5().named_parameters() if p.ndim > 1}
    assert sizes == {
        "conv1.weight": (20, 1, 5, 5),
        "conv2.weight": (50, 20, 5, 5),
        "fc1.weight": (500, 800),
        "fc2.weight": (10, 500),
    }
    assert [type(m) for m in LeNet5()].count(nn.ReLU) == 1


@pytest.mark.parametrize(
    "bad", [{"epochs": 0}, {"batch_size": 0}, {"lr": 0.0}, {"flat": 1.5}, {"validation": 0}]
)
def test_a_recipe_refuses_nonsense(bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match="epochs"):
        TrainRecipe(**{"epochs": 1, "batch_size": 1, **bad})
