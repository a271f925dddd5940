"""The importance that each method gives a unit, by hand on a tiny network; the least important go."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import laconic
from laconic.methods import (
    FilterPruning,
    FisherPruning,
    MeanActivationPruning,
    NetworkTrimming,
    RandomPruning,
    ScorePruning,
)
from laconic.methods.common.unit_importance import averaged
from laconic.methods.common.unit_masks import groups_of, unit_masks_of
from laconic.methods.common.unit_pruning import UnitPruning
from laconic.schedules import OneShot
from laconic.sparsify.scores import l1_groups
from laconic.structure import find_groups

GROUPS = ("conv.weight:0", "fc.weight:0")


class Tiny(nn.Module):
    """Six channels, normalised and pooled, then five hidden units."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6)
        self.fc, self.head = nn.Linear(24, 5), nn.Linear(5, 3)
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator))

    def pooled(self, x):
        return F.max_pool2d(F.relu(self.norm(self.conv(x))), 2)

    def hidden(self, x):
        return F.relu(self.fc(self.pooled(x).flatten(1)))

    def forward(self, x):
        return self.head(self.hidden(x))


def batches(n):
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(7, 1, 6, 6, generator=generator) for _ in range(n)]


def prepared(method, **settings):
    net = laconic.prepare(Tiny(), method, batches(1)[0], data_size=21, total_steps=10, **settings)
    assert tuple(g.name for g in groups_of(net)[0].groups) == GROUPS
    return net


def trained(method, count=3):
    """Some steps of training; after each the network as it is, its gradients, and the batch."""
    net = prepared(method)
    optimizer = torch.optim.SGD(laconic.param_groups(net, 0.02))
    seen = []
    for x in batches(count):
        optimizer.zero_grad()
        net.train()(x).square().mean().backward()
        optimizer.step()
        plain = Tiny()
        plain.load_state_dict({n: t for n, t in net.state_dict().items() if "laconic" not in n})
        gradients = {n: p.grad.numpy().astype(np.float64) for n, p in net.named_parameters()}
        seen.append((plain.eval(), gradients, x))
        laconic.step(net, terms=len(x))
    return net, seen


def importance(method, net):
    coupling, _ = groups_of(net)
    with torch.no_grad():
        return method.importance().of(net, coupling)


def running_average(each, memory):
    found = 0.0
    for value in each:
        found = memory * found + (1 - memory) * value
    return found


@pytest.mark.parametrize("norm", [1, 2])
def test_filters_by_norm_as_a_share_of_their_group(norm):
    method = FilterPruning(norm=norm)
    got, net = importance(method, prepared(method)), Tiny()
    for name, weight in zip(GROUPS, (net.conv.weight, net.fc.weight), strict=True):
        rows = weight.detach().numpy().reshape(len(weight), -1).astype(np.float64)
        norms = np.abs(rows).sum(1) if norm == 1 else np.sqrt((rows**2).sum(1))
        assert got[name] == pytest.approx(norms / norms.sum())


def activations(plain, x):
    """What reads each group: the pooled channels, and the hidden units, (numbers, units)."""
    with torch.no_grad():
        pooled, hidden = plain.pooled(x).numpy(), plain.hidden(x).numpy()
    return pooled.transpose(0, 2, 3, 1).reshape(-1, 6).astype(np.float64), hidden.astype(np.float64)


def test_zeros_of_what_is_read_averaged_over_batches():
    method = NetworkTrimming(0.3, OneShot(0.9), memory=0.6)
    net, seen = trained(method)
    got = importance(method, net)
    for k, name in enumerate(GROUPS):
        shares = [(activations(plain, x)[k] != 0).mean(0) for plain, _, x in seen]
        assert got[name] == pytest.approx(running_average(shares, 0.6), rel=1e-5)
        assert len(set(got[name].tolist())) > 1


def test_mean_activations_averaged_over_batches_over_the_norm_of_their_group():
    method = MeanActivationPruning(0.3, OneShot(0.9), memory=0.6)
    net, seen = trained(method)
    got = importance(method, net)
    for k, name in enumerate(GROUPS):
        means = running_average([np.abs(activations(plain, x)[k]).mean(0) for plain, _, x in seen], 0.6)
        assert got[name] == pytest.approx(means / np.sqrt((means**2).sum()), rel=1e-5)


def test_squared_gradients_times_squared_weights_that_read_the_unit():
    method = FisherPruning(0.3, OneShot(0.9), memory=0.6)
    net, seen = trained(method)
    got = importance(method, net)
    by_hand = {name: [] for name in GROUPS}
    for plain, g, _ in seen:
        fc = 0.5 * (g["fc.weight"] * plain.fc.weight.detach().numpy()) ** 2
        head = 0.5 * (g["head.weight"] * plain.head.weight.detach().numpy()) ** 2
        by_hand[GROUPS[0]].append(fc.reshape(5, 6, 4).sum((0, 2)))  # four pixels a channel
        by_hand[GROUPS[1]].append(head.sum(0))
    for name in GROUPS:
        assert got[name] == pytest.approx(running_average(by_hand[name], 0.6), rel=1e-5)


def test_random_importance_is_drawn_once_from_the_seed():
    method = RandomPruning(0.3, OneShot(0.9))
    first, again, other = (importance(method, prepared(method, seed=s)) for s in (1, 1, 2))
    later, _ = trained(method)
    start = importance(method, prepared(method))
    for name in GROUPS:
        assert np.array_equal(first[name], again[name]) and not np.array_equal(first[name], other[name])
        assert np.array_equal(importance(method, later)[name], start[name])
        assert len(set(first[name].tolist())) == len(first[name]) and (first[name] >= 0).all()


def by_position(module, coupling):
    return {g.name: np.arange(g.size, 0.0, -1.0) for g in coupling.groups}


@dataclass(frozen=True)
class ByGradient(UnitPruning):
    """A method of one's own: the mean absolute gradient of the weights that make a unit."""

    def importance(self):
        return averaged(_mean_gradients, 0.5)


def _mean_gradients(module, coupling):
    weights = {"conv.weight:0": module.conv.weight, "fc.weight:0": module.fc.weight}
    return {n: w.grad.abs().flatten(1).mean(1).double().numpy() for n, w in weights.items()}


METHODS = {
    "own method": ByGradient(0.5, OneShot(0.5), every=1, grid=None),
    "filters": FilterPruning(0.5, OneShot(0.5), every=1, grid=None),
    "apoz": NetworkTrimming(0.5, OneShot(0.5), every=1, grid=None, memory=0.5),
    "mean activation": MeanActivationPruning(0.5, OneShot(0.5), every=1, grid=None, memory=0.5),
    "fisher": FisherPruning(0.5, OneShot(0.5), every=1, grid=None, memory=0.5),
    "random": RandomPruning(0.5, OneShot(0.5), every=1, grid=None),
    "own": ScorePruning(0.5, OneShot(0.5), every=1, grid=None, score=by_position),
}


@pytest.mark.parametrize("name", METHODS)
def test_the_least_important_units_go(name):
    """In every group: no unit that went was more important than one that stayed."""
    method = METHODS[name]
    before, _ = trained(method, 4)
    assert all(bool(m.all()) for m in unit_masks_of(before, groups_of(before)[0]).values())
    net = copy.deepcopy(before)
    net.load_state_dict({**net.state_dict(), "laconic_progress": torch.tensor([10, 70])})  # at its end
    values = importance(method, net)
    kept = laconic.convert(net).facts["kept_units"]
    removed = {n: sorted(set(range(len(values[n]))) - set(kept[n])) for n in GROUPS}
    assert sum(map(len, removed.values())) > 0
    for n in GROUPS:
        if removed[n]:
            assert values[n][removed[n]].max() <= values[n][list(kept[n])].min()


@pytest.mark.parametrize("name", ["filters", "mean activation"])
def test_importance_is_the_same_in_a_masked_and_a_shrunk_network(name):
    """Norms of a group are those of the units that are left, as if the rest had never been there."""
    method = METHODS[name]
    net, _ = trained(method, 6)  # the cut is at the fifth step
    coupling, _ = groups_of(net)
    masks = {n: m.numpy() for n, m in unit_masks_of(net, coupling).items()}
    assert not all(m.all() for m in masks.values())
    got = importance(method, net)
    for n in GROUPS:
        assert not got[n][~masks[n]].any()
        left = got[n][masks[n]]
        assert (left.sum() if name == "filters" else np.sqrt((left**2).sum())) == pytest.approx(1.0)
    if name == "filters":
        small = laconic.convert(net).module
        narrow = l1_groups(small, find_groups(small, batches(1)[0]))
        for n in narrow:
            assert got[n][masks[n]] == pytest.approx(narrow[n] / narrow[n].sum())
