"""A prepared network's bookkeeping: averages and copies of it, zeros under every optimiser."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_avg_fn

import laconic
from laconic.bayes.prepare import posteriors_of
from laconic.methods import FilterPruning, MagnitudePruning, NoCompression, SparseVD
from laconic.methods.common.masks import weight_masks_of
from laconic.methods.common.unit_masks import groups_of, unit_masks_of
from laconic.methods.contract import Compressed, Context
from laconic.networks.noise import NoiseSource
from laconic.prepared import hold_zeros, prepared, zeros_of
from laconic.schedules import Cubic

X = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(16) % 3
EVERY_STEP = MagnitudePruning(0.9, every=1, epochs=20)


def _plain() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def _prepare(method: Any = EVERY_STEP) -> nn.Module:
    return laconic.prepare(_plain(), method, X[:2], data_size=16)


def _train(net: nn.Module, steps: int, after: Callable[[], Any] = lambda: None, make: Any = None) -> None:
    optimizer = (make or partial(torch.optim.SGD, lr=0.05))(net.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        laconic.objective(net, (X, Y)).backward()
        optimizer.step()
        laconic.step(net)
        after()


def _converted(net: nn.Module) -> Compressed:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return laconic.convert(net)


def _weights_left(small: Compressed) -> int:
    return sum(t.nonzeros() for name, t in small.tensors.items() if name.endswith("weight"))


# --- averages -------------------------------------------------------------------------------------------


def _by_hand(average: nn.Module, net: nn.Module) -> None:
    with torch.no_grad():
        for own, live in zip(average.parameters(), net.parameters(), strict=True):
            own.lerp_(live, 0.1)


@pytest.mark.parametrize("kind", ["wrapper", "module", "by hand"])
def test_an_average_is_converted_at_the_step_of_the_network_that_is_averaged(kind: str) -> None:
    net = _prepare()
    wrapper = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    average = {"wrapper": wrapper, "module": wrapper.module, "by hand": copy.deepcopy(net)}[kind]
    update = partial(_by_hand, average, net) if kind == "by hand" else partial(wrapper.update_parameters, net)
    _train(net, 8, update)
    with pytest.warns(UserWarning, match=r"stands at 80\.9 % of the weights removed after 8 epochs"):
        small = laconic.convert(average)
    told, live = small.facts["notes"], _converted(net).facts["notes"]
    assert told[:-1] == live[:-1]  # the last one tells what was measured
    assert _weights_left(small) == 72 - round(0.809 * 72)  # not 7: the final sparsity of 0.9
    averaged = dict(getattr(average, "module", average).named_parameters())["2.bias"]
    torch.testing.assert_close(small.module[2].bias.detach(), averaged.detach(), rtol=0, atol=0.02)
    _train(net, 1, update)
    assert isinstance(_converted(average), Compressed)  # trained since, so that it is converted again


def test_an_averages_warm_up_and_state_dict_are_those_of_the_network() -> None:
    net = _prepare(SparseVD())
    average = AveragedModel(net)
    _train(net, 3, partial(average.update_parameters, net))
    assert average.state_dict()["module.laconic_progress"].tolist() == [3, 48]
    kept = copy.deepcopy(average.module)
    loaded = pickle.loads(pickle.dumps(average.module))
    _train(net, 2, partial(average.update_parameters, net))
    assert [prepared(n, "test").context.step for n in (average.module, kept, loaded, net)] == [5, 3, 3, 5]


def test_a_copy_that_is_kept_or_trained_has_steps_of_its_own() -> None:
    net = _prepare()
    _train(net, 4)
    best, fork = copy.deepcopy(net), copy.deepcopy(net)
    _train(net, 4)
    _train(fork, 1)
    assert [prepared(n, "test").context.step for n in (best, fork, net)] == [4, 5, 8]
    assert _weights_left(_converted(best)) > _weights_left(_converted(net))
    best.load_state_dict(net.state_dict())
    _train(net, 1)
    assert prepared(best, "test").context.step == 8


AVERAGES: dict[str, Any] = {
    "mean": {},
    "mean, one by one": {"avg_fn": get_swa_avg_fn()},
    "exponential": {"multi_avg_fn": get_ema_multi_avg_fn(0.9)},
}


@pytest.mark.parametrize("average", AVERAGES.values(), ids=AVERAGES.keys())
@pytest.mark.parametrize("method", [EVERY_STEP, FilterPruning(0.5, every=1)], ids=["weights", "units"])
def test_an_average_with_buffers_has_the_networks_masks(method: Any, average: Any) -> None:
    """Under booleans the mean fails inside torch, and the exponential average keeps the first masks."""
    net = _prepare(method)
    wrapper = AveragedModel(net, use_buffers=True, **average)
    _train(net, 8, partial(wrapper.update_parameters, net))
    masks = {name: b for name, b in net.named_buffers() if b.dtype is torch.int8}
    assert masks
    assert not all(bool(mask.all()) for mask in masks.values())
    for name, mask in masks.items():
        assert torch.equal(wrapper.module.get_buffer(name), mask)
    assert _weights_left(_converted(wrapper)) == _weights_left(_converted(net))


def test_an_average_with_buffers_keeps_an_earlier_stages_zeros() -> None:
    net = _prepare(NoCompression())
    hold_zeros(net, {"0.weight": np.eye(8, 6, dtype=bool)})
    wrapper = AveragedModel(net, use_buffers=True)
    _train(net, 3, partial(wrapper.update_parameters, net))
    assert torch.equal(zeros_of(wrapper.module)["0.weight"], torch.eye(8, 6).bool())


# --- zeros under momentum and decay ---------------------------------------------------------------------

OPTIMIZERS = {
    "momentum": partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=0.1),
    "nesterov": partial(torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=True),
    "adam": partial(torch.optim.Adam, lr=0.05, weight_decay=0.1),
    "adamw": partial(torch.optim.AdamW, lr=0.05, weight_decay=0.1),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_cut_weights_are_exactly_zero_after_each_step(make: Any) -> None:
    net = _prepare(MagnitudePruning(0.5, every=4, schedule=Cubic(end=0.01), epochs=100))
    cut: dict[str, torch.Tensor] = {}

    def look() -> None:
        for name, mask in weight_masks_of(net).items():
            assert not net.get_parameter(name)[~mask].any()
            cut[name] = mask

    _train(net, 6, look, make)
    assert sum(int((~mask).sum()) for mask in cut.values()) == 36


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_removed_units_are_exactly_zero_after_each_step(make: Any) -> None:
    net = _prepare(FilterPruning(0.5, every=1))

    def look() -> None:
        (kept,) = unit_masks_of(net, groups_of(net)[0]).values()
        assert 0 < int(kept.sum()) < 8
        assert not net[0].weight[~kept].any()
        assert not net[0].bias[~kept].any()
        assert not net[2].weight[:, ~kept].any()

    _train(net, 4, look, make)


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
@pytest.mark.parametrize("second", [MagnitudePruning(0.6, every=2), SparseVD()], ids=["magnitude", "vd"])
def test_what_a_stage_has_removed_is_exactly_zero_through_the_next_ones(make: Any, second: Any) -> None:
    net = _prepare(MagnitudePruning(0.5, every=1, schedule=Cubic(end=0.01)))
    _train(net, 3, make=make)
    first = _converted(net)
    removed = Context(16, NoiseSource(0), previous=first).removed
    zeros = {name: torch.from_numpy(zero) for name, zero in removed.items()}
    assert sum(int(z.sum()) for z in zeros.values()) >= 36
    net = laconic.prepare(first.module, second, X[:2], data_size=16, previous=first)

    def look() -> None:
        posteriors = posteriors_of(net)
        for name, zero in zeros.items():
            value = posteriors[name].expectation() if name in posteriors else net.get_parameter(name)
            assert not value[zero].any()

    _train(net, 5, look, make)
    last = _converted(net)
    for name, zero in zeros.items():
        assert not last.module.get_parameter(name)[zero].any()
