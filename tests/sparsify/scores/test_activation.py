"""Activation scores by counting and by hand; statistics in parts."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from laconic.sparsify.scores import (
    apoz_groups,
    gather_inputs,
    mean_activation_groups,
    wanda_groups,
    wanda_weights,
)
from laconic.sparsify.scores.activation import merged
from laconic.sparsify.selection.weights import keep_best_of_rows
from laconic.structure import find_groups
from tests.helpers.coupled_networks import CASES, residual
from tests.helpers.networks import seeded


def batch(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_apoz_and_mean_by_counting():
    net = seeded(lambda: nn.Sequential(nn.Linear(4, 7), nn.ReLU(), nn.Linear(7, 2)))
    xs = [batch(9, 4), batch(5, 4, seed=1)]
    coupling = find_groups(net, xs[0])
    stats = gather_inputs(net, xs)
    hidden = net[:2](torch.cat(xs)).detach()
    for unit in range(7):
        zeros = sum(1 for v in hidden[:, unit].tolist() if v == 0)
        assert apoz_groups(coupling, stats)["0.weight:0"][unit] == pytest.approx(1 - zeros / 14)
        size = sum(abs(v) for v in hidden[:, unit].tolist()) / 14
        assert mean_activation_groups(coupling, stats)["0.weight:0"][unit] == pytest.approx(size)


def test_flattened_channels_count_all_their_pixels():
    net = seeded(lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)))
    x = batch(5, 1, 4, 4)
    coupling = find_groups(net, x)
    maps = net[:2](x).detach()
    got = apoz_groups(coupling, gather_inputs(net, [x]))["0.weight:0"]
    assert np.allclose(got, (maps > 0).float().mean((0, 2, 3)))


def test_all_readers_of_a_stream_count():
    net, x = seeded(residual), CASES["residual"][1]
    coupling = find_groups(net, x)
    with torch.no_grad():
        stem = F.relu(net.stem(x))
        out = F.relu(stem + net.bn2(net.conv2(F.relu(net.bn1(net.conv1(stem)))))).mean((2, 3))
    read = torch.cat([stem.movedim(1, -1).reshape(-1, 8), out])
    got = apoz_groups(coupling, gather_inputs(net, [x]))["stem.weight:0"]
    assert np.allclose(got, (read != 0).float().mean(0))


def test_grouped_channels_that_go_together_count_together():
    build, x, _ = CASES["grouped"]
    net = seeded(build)
    coupling = find_groups(net, x)
    group = coupling.group("0.weight:0")
    units = group.members[0].units
    maps = net[:2](x).detach()
    got = mean_activation_groups(coupling, gather_inputs(net, [x]))["0.weight:0"]
    for unit in range(group.size):
        assert got[unit] == pytest.approx(maps[:, units == unit].abs().mean().item(), rel=1e-5)


def test_wanda_by_hand():
    net = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, -2.0, 0.5], [3.0, 0.1, -1.0]]))
    x = torch.tensor([[3.0, 1.0, 0.0], [4.0, 0.0, 2.0]])
    scores = wanda_weights(net, gather_inputs(net, [x]))
    assert torch.allclose(scores["weight"], torch.tensor([[5.0, 2.0, 1.0], [15.0, 0.1, 2.0]]))
    assert keep_best_of_rows(scores, 0.5)["weight"].tolist() == [[True, True, False], [True, False, True]]


@pytest.mark.parametrize("groups", [1, 2])
def test_wanda_of_a_convolution_and_of_its_transpose(groups):
    x = batch(2, 4, 5, 5)
    norms = x.movedim(1, -1).reshape(-1, 4).norm(dim=0)
    conv = nn.Conv2d(4, 6, 3, groups=groups)
    got = wanda_weights(conv, gather_inputs(conv, [x]))["weight"]
    for o in range(6):
        for i in range(4 // groups):
            channel = o // (6 // groups) * (4 // groups) + i
            assert torch.allclose(got[o, i], conv.weight[o, i].abs() * norms[channel])
    back = nn.ConvTranspose2d(4, 6, 3, groups=groups)
    got = wanda_weights(back, gather_inputs(back, [x]))["weight"]
    assert torch.allclose(got, back.weight.abs() * norms[:, None, None, None])


def test_wanda_of_a_unit_is_the_sum_over_its_columns():
    net = seeded(lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(12, 2)))
    x = batch(5, 1, 4, 4)
    coupling = find_groups(net, x)
    stats = gather_inputs(net, [x])
    columns = wanda_weights(net, stats)["2.weight"].sum(0)
    assert np.allclose(wanda_groups(net, coupling, stats)["0.weight:0"], columns.reshape(3, 4).sum(1))


def test_attention_over_different_queries_and_keys_has_norms_by_block():
    net = nn.MultiheadAttention(4, 2, batch_first=True).eval()
    q, k, v = batch(1, 3, 4), 2 * batch(1, 5, 4, seed=1), 3 * batch(1, 5, 4, seed=2)
    stats = gather_inputs(net, [(q, k, v)], forward=lambda m, b: m(*b))
    got = wanda_weights(net, stats)["in_proj_weight"]
    norms = torch.cat([t[0].norm(dim=0).expand(4, 4) for t in (q, k, v)])
    assert torch.allclose(got, net.in_proj_weight.abs() * norms)


def test_statistics_in_parts_are_those_of_the_whole():
    net = seeded(lambda: nn.Sequential(nn.Linear(4, 7), nn.ReLU(), nn.Linear(7, 2)))
    xs = [batch(3, 4, seed=k) for k in range(4)]
    whole = gather_inputs(net, xs)
    gone_on = gather_inputs(net, xs[1:], start=gather_inputs(net, xs[:1]))
    added = merged(gather_inputs(net, xs[:3]), gather_inputs(net, xs[3:]))
    for name in whole:
        for field in ("count", "zeros", "absolute", "squares"):
            values = [getattr(s[name], field) for s in (whole, gone_on, added)]
            assert torch.allclose(values[0], values[1]) and torch.allclose(values[0], values[2])
    assert whole["0.weight"].count.item() == 12


def test_dropout_and_batch_norm_are_at_rest():
    net = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.9), nn.Linear(4, 2)).train()
    x = batch(8, 4)
    stats = gather_inputs(net, [x])
    assert net.training and not net[0].running_mean.any()
    assert torch.allclose(stats["2.weight"].absolute[0].float(), net[0].eval()(x).abs().sum(0))
