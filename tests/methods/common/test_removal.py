"""Removing dead units: exact, smaller, and still the same integers on the same grids."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import laconic
from laconic.errors import InputError
from laconic.methods import Compressed, SparseVD
from laconic.methods.common.removal import dead_units, remove_dead_units
from laconic.records import IntTensor, UniformGrid
from laconic.runtime import load
from laconic.structure import find_groups, mask
from laconic.structure.narrow import NarrowInput
from laconic.structure.trials import random_plan
from laconic.zoo import DigitsMLP
from tests.helpers.coupled_networks import CASES
from tests.helpers.method_suite import digits, train
from tests.helpers.networks import seeded


def gaps_of(module):
    return set(module.gaps()) if isinstance(module, NarrowInput) else set()


def compressed(module, example):
    """A network on a grid of 1/64, as a method would hand it over."""
    tensors = {}
    for name, p in module.named_parameters():
        integers = np.rint(p.detach().numpy() * 64).astype(np.int32)
        tensors[name] = IntTensor(name, integers, UniformGrid(1 / 64))
        with torch.no_grad():
            p.copy_(torch.from_numpy(tensors[name].values()))
    return Compressed(module.eval(), tensors, {"kept": 1}, example)


@pytest.mark.parametrize(
    "name", ["residual", "dense", "grouped", "lstm", "transformer", "flat pixels", "heads"]
)
def test_a_masked_network_loses_its_dead_units(name, tmp_path):
    build, example, _ = CASES[name]
    net = seeded(build)
    coupling = find_groups(net, example)
    plan = random_plan(coupling, np.random.default_rng(5))
    small = compressed(mask(net, coupling, plan), example)
    smaller = remove_dead_units(small, inputs=True)
    with torch.no_grad():
        wanted = small.module(example)
        assert (smaller.module(example) - wanted).abs().max() < 1e-5 * wanted.abs().max()
    state = smaller.module.state_dict()
    for key, tensor in smaller.tensors.items():
        assert np.array_equal(tensor.values(), state[key].numpy()), key
    assert set(smaller.tensors) == {n for n, _ in smaller.module.named_parameters()} | gaps_of(smaller.module)
    assert sum(t.values().size for t in smaller.tensors.values()) < sum(
        t.values().size for t in small.tensors.values()
    )
    units = smaller.facts["units"]
    removed = sum(before - after for before, after in units.values())
    assert removed == sum(len(plan.removed(n)) for n in plan.kept)
    kept = smaller.facts["kept_units"]
    assert {n: list(k) for n, k in kept.items()} == {n: list(plan.kept[n]) for n in plan.kept}
    assert smaller.facts["kept"] == 1
    if name in ("residual", "lstm"):
        laconic.save(smaller, tmp_path / "model.lac")
        got = load(tmp_path / "model.lac", threads=1)(example.numpy())
        assert np.abs(got - wanted.numpy()).max() < 1e-4


def test_sparse_vd_ends_in_a_smaller_network():
    method = SparseVD(kl_weight=60.0, threshold=-2.0)
    model = DigitsMLP(generator=torch.Generator().manual_seed(2))
    small = laconic.convert(train(model, method))
    smaller = remove_dead_units(small)
    assert smaller.module.fc1.out_features <= small.module.fc1.out_features
    x = digits()[0][:9]
    with torch.no_grad():
        assert torch.allclose(small.module(x), smaller.module(x), atol=1e-5)


def test_nothing_dead_nothing_changes():
    build, example, _ = CASES["residual"]
    small = compressed(seeded(build), example)
    assert remove_dead_units(small) is small


def test_a_layer_that_is_all_dead_keeps_one_unit():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        for p in (net[0].weight, net[0].bias, net[2].weight):
            p.zero_()
    coupling = find_groups(net, torch.zeros(2, 3))
    assert dead_units(net, coupling).kept == {"0.weight:0": (0,)}


def test_a_bias_alone_keeps_a_unit_alive():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        net[0].weight[:2] = 0
        net[0].bias[0] = 0
        net[2].weight[:, 0] = 0
    coupling = find_groups(net, torch.zeros(2, 3))
    assert dead_units(net, coupling).removed("0.weight:0") == (0,)


def test_without_an_example():
    with pytest.raises(InputError, match="needs an example"):
        remove_dead_units(Compressed(nn.Linear(2, 2), {}, {}))
