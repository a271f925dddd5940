"""First-order structured pruning: the method suite, the schedule in MACs, importance by hand, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import laconic
from laconic.errors import InputError, ModelError
from laconic.methods import TaylorPruning
from laconic.methods.common.unit_masks import groups_of, plan_of
from laconic.schedules import Cubic
from laconic.structure import find_groups
from laconic.structure.macs import weight_macs
from laconic.testing import check_method
from laconic.zoo import DigitsCNN, DigitsMLP, ResNet20
from laconic.zoo.digits_lstm import DigitsLSTM
from tests.helpers.coupled_networks import CASES
from tests.helpers.method_suite import digits, train

NETWORKS = {"mlp": DigitsMLP, "cnn": DigitsCNN, "lstm": DigitsLSTM}


def build(name):
    return NETWORKS[name](generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_method_suite(name, tmp_path):
    small = check_method(TaylorPruning(0.4, every=1), lambda: build(name), tmp_path)
    assert small.facts["macs_after"] <= 0.4 * small.facts["macs_before"]
    before = sum(p.numel() for p in build(name).parameters())
    assert sum(p.numel() for p in small.module.parameters()) < before


def test_inputs_may_go_too(tmp_path):
    net = train(build("mlp"), TaylorPruning(0.2, every=1, inputs=True))
    small = laconic.convert(net)
    laconic.save(small, tmp_path / "model.lac")
    kept = small.module.kept(0)
    assert 0 < len(kept) < 64
    x = digits()[0][:8]
    got = laconic.runtime.load(tmp_path / "model.lac", threads=1)(x.numpy())
    assert np.abs(got - small.module(x).detach().numpy()).max() < 1e-4
    assert not any("laconic" in name for name in small.module.state_dict())


def test_macs_follow_the_schedule_and_units_never_return():
    x, y = digits()
    net = laconic.prepare(
        build("cnn"),
        TaylorPruning(0.3, every=2, schedule=Cubic(end=0.5)),
        x[:2],
        data_size=len(x),
        total_steps=12,
    )
    optimizer = torch.optim.Adam(laconic.param_groups(net, 0.01))
    coupling, macs = groups_of(net)
    share, before = [], plan_of(net, coupling)
    for _ in range(12):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
        laconic.step(net, terms=len(x))
        plan = plan_of(net, coupling)
        assert all(set(plan.kept[n]) <= set(before.kept[n]) for n in plan.kept)
        share.append(macs.total({n: len(k) for n, k in plan.kept.items()}) / macs.total())
        before = plan
        parameters = dict(net.named_parameters())
        for group in coupling.groups:
            for member in group.members:
                if member.tensor in parameters:
                    removed = np.isin(member.units, plan.removed(group.name))
                    assert not parameters[member.tensor].movedim(member.axis, 0)[removed].any()
    assert share[0] == 1.0
    assert all(a >= b for a, b in zip(share, share[1:], strict=False))
    for step, cubic in ((2, 2 / 6), (4, 4 / 6)):
        assert share[step - 1] <= 1 - 0.7 * (1 - (1 - cubic) ** 3) + 1e-9
    assert 0.15 < share[-1] <= 0.3


def test_importance_is_the_squared_sum_of_gradient_times_weight():
    x, y = digits()
    method = TaylorPruning(1.0, memory=0.0)
    net = laconic.prepare(build("mlp"), method, x[:2], data_size=len(x))
    F.cross_entropy(net(x), y).backward()
    laconic.step(net, terms=len(x))
    coupling, _ = groups_of(net)
    first, second = [m for m in net.modules() if isinstance(m, nn.Linear)][:2]
    by_hand = (second.weight * second.weight.grad).sum(0)
    assert first.weight is dict(net.named_parameters())[coupling.groups[0].name.partition(":")[0]]
    assert torch.allclose(net.laconic_importance_0, by_hand.square(), rtol=1e-4)


def test_a_share_that_cannot_be_reached():
    with pytest.raises(InputError, match=r"0\.\d+ of the multiply-accumulates remain.*smaller min_units"):
        laconic.prepare(build("mlp"), TaylorPruning(0.1, min_units=30), torch.zeros(2, 1, 8, 8), data_size=10)


@pytest.mark.parametrize(
    "name", ["residual", "grouped", "depthwise", "lstm", "transformer", "cells", "transposed"]
)
def test_macs_by_plan_are_those_of_the_shrunk_network(name):
    from laconic.structure import shrink
    from laconic.structure.trials import random_plan

    network, example, _ = CASES[name]
    net = network().eval()
    coupling = find_groups(net, example)
    plan = random_plan(coupling, np.random.default_rng(3))
    small = shrink(net, coupling, plan)
    macs = weight_macs(net, coupling, example)
    again = weight_macs(small, type(coupling)(()), example)
    assert macs.total({n: len(k) for n, k in plan.kept.items()}) == pytest.approx(again.total())


def test_resnet_macs_by_hand():
    net = ResNet20(generator=torch.Generator().manual_seed(0)).eval()
    macs = weight_macs(
        net, type(find_groups(nn.Linear(2, 2), torch.zeros(1, 2)))(()), torch.zeros(1, 3, 32, 32)
    )
    assert macs.total() == 40_551_040


def test_bad_settings_and_networks():
    for bad in (0.0, 1.5, float("nan")):
        with pytest.raises(InputError, match="share of multiply-accumulates"):
            TaylorPruning(bad)
    with pytest.raises(InputError, match="min_units"):
        TaylorPruning(0.5, min_units=-1)
    with pytest.raises(InputError, match="multiple"):
        TaylorPruning(0.5, multiple=0)
    with pytest.raises(ModelError, match="no group of units"):
        laconic.prepare(nn.Linear(4, 2), TaylorPruning(), torch.zeros(1, 4), data_size=10)


def test_without_a_grid_the_smaller_network_stays_in_float():
    net = train(build("cnn"), TaylorPruning(0.5, every=1, grid=None))
    small = laconic.convert(net)
    assert small.tensors == {} and small.facts["macs_after"] < small.facts["macs_before"]
    assert not any("laconic" in name for name in small.module.state_dict())
    small.module.train()
    small.module(digits()[0][:4]).sum().backward()


def test_what_is_left_is_recorded():
    small = laconic.convert(train(build("cnn"), TaylorPruning(0.5, every=1)))
    assert set(small.record) >= {"macs_before", "macs_after", "kept_units", "left_whole", "tensors"}
