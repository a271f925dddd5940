"""Scores of units against loops over single numbers, and against what a mask makes zero."""

import numpy as np
import pytest
import torch
from torch import nn

from laconic.errors import InputError
from laconic.records import KeepPlan
from laconic.sparsify.scores import everything, group_scores, largest, mean, norm, producers, readers, total
from laconic.structure import find_groups, mask
from tests.helpers.coupled_networks import CASES
from tests.helpers.networks import seeded


def scores_of(net):
    generator = torch.Generator().manual_seed(5)
    return {
        n: torch.rand(p.shape, generator=generator, dtype=torch.float64) for n, p in net.named_parameters()
    }


@pytest.fixture(scope="module", params=CASES, ids=lambda name: name.replace(" ", "-"))
def case(request):
    build, example, _ = CASES[request.param]
    net = seeded(build)
    return net, find_groups(net, example)


HOWS = [(total, np.sum), (mean, np.mean), (largest, np.max), (norm, lambda x: np.sqrt(np.sum(np.square(x))))]


def test_all_members_are_what_a_mask_makes_zero(case):
    """Each number once: also those that hang on a unit by two axes."""
    net, coupling = case
    scores = scores_of(net)
    ones = mask(net, coupling, KeepPlan({}, {}))
    with torch.no_grad():
        for p in ones.parameters():
            p.fill_(1.0)
    got = [group_scores(net, coupling, scores, how=how, members=everything) for how, _ in HOWS]
    for group in coupling.groups:
        if any(group.name in names for names in coupling.tied):
            continue  # a mask takes one unit of each
        for unit in {0, 1, group.size - 1}:
            kept = tuple(k for k in range(group.size) if k != unit)
            removed = mask(ones, coupling, KeepPlan({group.name: kept}, {group.name: group.size}))
            mine = np.concatenate([scores[n][p == 0].numpy() for n, p in removed.named_parameters()])
            for values, (_, oracle) in zip(got, HOWS, strict=True):
                assert values[group.name][unit] == pytest.approx(oracle(mine), rel=1e-12)


def test_hidden_to_hidden_weights_count_once():
    build, example, _ = CASES["rnn"]
    net = seeded(build)
    coupling = find_groups(net, example)
    only = {"rnn.weight_hh_l0": torch.ones(7, 7)}
    assert (
        group_scores(net, coupling, {**only, "rnn.weight_ih_l0": torch.zeros(7, 5)})[
            "rnn.weight_ih_l0:0"
        ].tolist()
        == [13.0] * 7
    )  # a row and a column, their crossing once


@pytest.mark.parametrize(
    ("name", "group", "made", "read"),
    [
        ("residual", "stem.weight:0", {("stem.weight", 0), ("conv2.weight", 0)},
         {("conv1.weight", 1), ("fc.weight", 1)}),
        ("transposed", "6.weight:1", {("6.weight", 1)}, {("8.weight", 1)}),
        ("transposed", "0.weight:0", {("0.weight", 0)}, {("2.weight", 0)}),
        ("gru", "rnn.weight_ih_l1:0", {("rnn.weight_ih_l1", 0), ("rnn.weight_hh_l1", 0)},
         {("rnn.weight_hh_l1", 1), ("fc.weight", 1)}),
        ("flat pixels", "1.weight:1", {("1.weight", 1)}, {("1.weight", 1)}),
        ("heads", "qkv.weight:0", {("qkv.weight", 0)}, {("out.weight", 1)}),
    ],
)  # fmt: skip
def test_who_makes_and_who_reads(name, group, made, read):
    build, example, _ = CASES[name]
    net = seeded(build)
    found = find_groups(net, example).group(group)
    assert {(m.tensor, m.axis) for m in producers(net, found)} == made
    assert {(m.tensor, m.axis) for m in readers(net, found)} == read


def test_depthwise_transposed_convolutions_make_and_do_not_read():
    build, example, _ = CASES["transposed"]
    net = seeded(build)
    (group,) = [g for g in find_groups(net, example).groups if "5.weight" in {m.tensor for m in g.members}]
    assert {m.tensor for m in producers(net, group)} == {"2.weight", "5.weight"}
    assert {m.tensor for m in readers(net, group)} == {"6.weight"}


def test_embeddings_make_columns():
    build, example, _ = CASES["transformer"]
    net = seeded(build)
    stream = find_groups(net, example).group("blocks.layers.0.self_attn.out_proj.weight:0")
    assert ("embed.weight", 1) in {(m.tensor, m.axis) for m in producers(net, stream)}
    assert "embed.weight" not in {m.tensor for m in readers(net, stream)}


def test_flattened_channels_take_all_their_columns():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 1, bias=False))
    coupling = find_groups(net, torch.zeros(2, 1, 4, 4))
    scores = {"2.weight": torch.arange(8.0).reshape(1, 8)}
    assert group_scores(net, coupling, scores)["0.weight:0"].tolist() == [6.0, 22.0]
    assert group_scores(net, coupling, scores, how=mean)["0.weight:0"].tolist() == [1.5, 5.5]


def test_scores_of_another_network():
    build, example, _ = CASES["flat pixels"]
    net = seeded(build)
    coupling = find_groups(net, example)
    with pytest.raises(InputError, match=r"'1\.weight:0' has 8 positions along axis 0.*\(9, 30\).*Cure"):
        group_scores(net, coupling, {"1.weight": torch.zeros(9, 30)})
    with pytest.raises(InputError, match=r"group '1\.weight:0': no score was given"):
        group_scores(net, coupling, {})
