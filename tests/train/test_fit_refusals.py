"""The training loop on labels, loaders and settings that cannot be."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import laconic
from laconic.errors import DataError, InputError, NonFiniteError
from laconic.methods import SparseVD
from laconic.schedules import LinearDecay
from laconic.train.fit import FitConfig, Hooks, fit
from laconic.train.optimizers import SGD, Adam, OptimizerFactory
from laconic.zoo import DigitsCNN
from tests.helpers.method_suite import digits


def _tiny() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


@pytest.mark.parametrize(("label", "bad"), [(10, 10), (-1, -1), (99, 99)])
def test_labels_that_the_network_cannot_have_are_refused(label: int, bad: int) -> None:
    x, y = digits()
    y = y[:8].clone()
    y[3] = label
    net = _tiny()
    with pytest.raises(DataError, match=rf"label {bad} is out of range .* 10 outputs \(0\.\.9\)\. Cure"):
        fit(net, [(x[:8], y)], FitConfig(epochs=1), Hooks.plain(net))


def test_labels_that_are_no_indices_are_refused() -> None:
    x, _ = digits()
    net = _tiny()
    with pytest.raises(InputError, match=r"labels on axis 0 alone must be integers, and are float\. Cure"):
        fit(net, [(x[:8], torch.zeros(8))], FitConfig(epochs=1), Hooks.plain(net))


def test_a_loader_without_batches_is_refused() -> None:
    net = _tiny()
    with pytest.raises(DataError, match=r"gave no batch\. Cure: .*drop_last"):
        fit(net, [], FitConfig(epochs=1), Hooks.plain(net))


def test_a_loader_that_can_be_read_only_once_is_refused_in_the_second_epoch() -> None:
    x, y = digits()

    def once() -> Iterator[tuple[Tensor, Tensor]]:
        yield x[:8], y[:8]

    net = _tiny()
    with pytest.raises(DataError, match=r"no batch in epoch 2, and some .*: it can be read only once\. Cure"):
        fit(net, once(), FitConfig(epochs=2), Hooks.plain(net))


def test_a_nan_stops_training_and_names_the_layer() -> None:
    x, y = digits()
    model = DigitsCNN(generator=torch.Generator().manual_seed(0))
    net = laconic.prepare(model, SparseVD(), x[:2], data_size=len(x))
    batches = [(x[:16], y[:16])] * 4
    hooks = Hooks.prepared(net)

    def poison() -> None:
        hooks.after_step()
        with torch.no_grad():
            net.conv2.weight[0, 0, 0, 0] = float("nan")  # type: ignore[index, union-attr]

    broken = Hooks(hooks.param_groups, hooks.objective, poison)
    with pytest.raises(NonFiniteError, match=r"loss is nan at step 1: .*conv2.*Cure"):
        fit(net, batches, FitConfig(epochs=1), broken)


def test_settings_that_cannot_be_are_refused() -> None:
    for bad in ({"epochs": -1}, {"lr": 0.0}, {"lr": math.inf}):
        with pytest.raises(InputError, match="need epochs >= 0 and lr > 0"):
            FitConfig(**bad)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="one of auto, cpu, .*got 'banana'"):
        FitConfig(accelerator="banana")
    with pytest.raises(InputError, match="devices=2: training runs on one device"):
        FitConfig(devices=2)


@pytest.mark.parametrize(
    ("optimizer", "build"),
    [
        (Adam(), lambda p: torch.optim.Adam(p, lr=0.05)),
        (Adam(weight_decay=0.1), lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1)),
        (
            SGD(weight_decay=0.1),
            lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1),
        ),
        (SGD(momentum=0.0), lambda p: torch.optim.SGD(p, lr=0.05)),
        (torch.optim.RMSprop, lambda p: torch.optim.RMSprop(p, lr=0.05)),
        (
            functools.partial(torch.optim.AdamW, betas=(0.8, 0.9)),
            lambda p: torch.optim.AdamW(p, lr=0.05, betas=(0.8, 0.9)),
        ),
    ],
)
def test_optimizers_are_torchs_own(optimizer: OptimizerFactory, build: Callable[[Any], Any]) -> None:
    """The same weights as a loop by hand: rising for a quarter, flat to a half, falling to the end."""
    x, y = digits()
    x = x[:64].flatten(1)
    net, twin = nn.Linear(64, 10), nn.Linear(64, 10)
    twin.load_state_dict(net.state_dict())
    config = FitConfig(8, lr=0.05, optimizer=optimizer, schedule=LinearDecay(0.5, 0.25))
    fit(net, [(x, y[:64])], config, Hooks.plain(net))
    twins = build(twin.parameters())
    for factor in (0.0, 0.5, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25):
        twins.param_groups[0]["lr"] = 0.05 * factor
        twins.zero_grad()
        F.cross_entropy(twin(x), y[:64]).backward()
        twins.step()
    assert torch.allclose(net.weight, twin.weight, rtol=1e-5, atol=1e-7)


def test_bfloat16_computes_in_16_bits_and_keeps_32() -> None:
    seen: list[torch.dtype] = []
    net = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    net[0].register_forward_hook(lambda _, __, y: seen.append(y.dtype))
    x, y = digits()
    fit(net, [(x.flatten(1), y)], FitConfig(30, lr=0.02, precision="bfloat16"), Hooks.plain(net))
    assert set(seen[-30:]) == {torch.bfloat16} and all(p.dtype == torch.float32 for p in net.parameters())
    assert (net(x.flatten(1)).argmax(1) == y).float().mean() > 0.8


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"optimizer": "lbfgs"}, "optimizer must be a function, got 'lbfgs'. Cure: torch.optim.Adam"),
        ({"schedule": None}, "schedule must be a function, got None"),
        ({"precision": "float8"}, "precision must be one of float32, bfloat16, got 'float8'"),
    ],
)
def test_settings_that_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        FitConfig(**options)


def test_an_accelerator_that_is_not_here_is_named() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    net = nn.Linear(2, 2)
    with pytest.raises(
        InputError, match=r"accelerator='cuda' cannot be used here: .*Cure: accelerator='cpu'"
    ):
        fit(net, [], FitConfig(accelerator="cuda"), Hooks.plain(net))
