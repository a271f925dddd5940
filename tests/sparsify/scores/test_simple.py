"""Magnitude, normalisation and chance."""

import numpy as np
import pytest
import torch
from torch import nn

from laconic.sparsify.scores import (
    by_largest,
    by_mean,
    by_norm,
    by_rank,
    by_total,
    everything,
    groups_each,
    l1_groups,
    l2_groups,
    magnitude_weights,
    random_groups,
    random_weights,
    weights_each,
)
from laconic.sparsify.selection.weights import keep_best
from laconic.structure import find_groups
from tests.helpers.coupled_networks import CASES
from tests.helpers.networks import seeded


def test_magnitudes_of_filters_by_hand():
    build, x, _ = CASES["residual"]
    net = seeded(build)
    coupling = find_groups(net, x)
    rows = torch.cat([net.stem.weight.flatten(1), net.conv2.weight.flatten(1)], 1).detach()
    assert np.allclose(l1_groups(net, coupling)["stem.weight:0"], rows.abs().sum(1))
    assert np.allclose(l2_groups(net, coupling)["stem.weight:0"], rows.norm(dim=1))
    columns = (net.conv1.weight.transpose(0, 1).flatten(1), net.fc.weight.T)
    vectors = (net.stem.bias, net.conv2.bias, net.bn2.weight, net.bn2.bias)
    whole = torch.cat([rows, *columns, *(v[:, None] for v in vectors)], 1).detach()
    assert np.allclose(l2_groups(net, coupling, members=everything)["stem.weight:0"], whole.norm(dim=1))


def test_shared_weights_have_one_score():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    assert set(magnitude_weights(net)) == {"0.weight", "0.bias", "1.bias"}


@pytest.mark.parametrize("by", [by_mean, by_norm, by_total, by_largest, by_rank])
def test_normalised_scores_do_not_know_their_layers_scale(by):
    rng = np.random.default_rng(0)
    scores = {"a": rng.random(9), "b": rng.random(5)}
    scaled = {"a": scores["a"] * 1000, "b": scores["b"] / 7}
    first, second = groups_each(scores, by), groups_each(scaled, by)
    for name in scores:
        assert np.allclose(first[name], second[name])
        assert np.array_equal(np.argsort(first[name]), np.argsort(scores[name]))


def test_normalisers_by_hand():
    s = np.array([3.0, -4.0, 0.0])
    assert np.allclose(by_mean(s), s / (7 / 3))
    assert np.allclose(by_norm(s), s / 5)
    assert np.allclose(by_total(s), s / np.abs(s).sum())
    assert np.allclose(by_largest(s), s / 4)
    assert np.allclose(by_rank(np.array([1.0, 1.0, 0.5])), [1 / 3, 2 / 3, 0])
    assert not by_norm(np.zeros(3)).any()


def test_globally_a_layer_of_small_weights_goes_first_unless_normalised():
    scores = {"small": torch.linspace(0.001, 0.01, 10), "large": torch.linspace(1, 10, 10)}
    assert keep_best(scores, 0.5)["small"].sum() == 0
    normalised = weights_each(scores, by_mean)
    assert normalised["small"].dtype == torch.float32
    kept = keep_best(normalised, 0.5)
    assert kept["small"].sum() == kept["large"].sum() == 5


def test_chance_depends_on_its_generator_alone():
    build, x, _ = CASES["computed sizes"]
    net = seeded(build)
    coupling = find_groups(net, x)
    first, again, other = (random_groups(coupling, np.random.default_rng(k)) for k in (1, 1, 2))
    assert all(np.array_equal(first[n], again[n]) and not np.array_equal(first[n], other[n]) for n in first)
    a, b = (random_weights(net, torch.Generator().manual_seed(4)) for _ in range(2))
    assert all(torch.equal(a[n], b[n]) for n in a)
