"""The masked and the shrunk network agree to float64 rounding, on random plans, for every way of coupling."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from laconic.errors import InputError
from laconic.records import KeepPlan
from laconic.structure import find_groups, mask, shrink
from laconic.structure.narrow import NarrowAttention, NarrowInput, NarrowLayerNorm
from laconic.structure.trials import random_plan
from tests.helpers.coupled_networks import CASES, conv, residual
from tests.helpers.networks import seeded
from tests.helpers.parity import assert_parity


def worst(got, wanted):
    """Largest difference over the largest number."""
    return float((got - wanted).abs().max() / wanted.abs().max())


@pytest.fixture(scope="module", params=CASES, ids=lambda name: name.replace(" ", "-"))
def case(request):
    build, example, names = CASES[request.param]
    net = seeded(build).double()
    example = example.double() if example.is_floating_point() else example
    return net, example, names, find_groups(net, example)


def test_the_groups_are_found(case):
    net, _, names, coupling = case
    assert {g.name for g in coupling.groups if not g.of_input} == names
    for group in coupling.groups:
        for member in group.members:
            if not member.tensor.startswith("input"):
                assert len(member.units) == net.state_dict()[member.tensor].shape[member.axis]


@pytest.mark.parametrize("seed", range(5))
def test_masked_equals_shrunk(case, seed):
    net, example, _, coupling = case
    plan = random_plan(coupling, np.random.default_rng(100 + seed))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    masked, small = mask(net, coupling, plan), shrink(net, coupling, plan)
    with torch.no_grad():
        assert worst(small(example), masked(example)) < 1e-12
        # The plan matters: the network as it was says something else.
        assert worst(small(example), net(example)) > 1e-6
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in net.parameters())


def test_one_group_at_a_time(case):
    """Random plans of all groups could hide a group that changes nothing."""
    net, example, _, coupling = case
    for group in coupling.groups:
        if any(group.name in names for names in coupling.tied):
            continue
        plan = KeepPlan({group.name: tuple(range(1, group.size))}, {group.name: group.size})
        with torch.no_grad():
            got, wanted = shrink(net, coupling, plan)(example), mask(net, coupling, plan)(example)
        assert worst(got, wanted) < 1e-12, group.name


def test_a_shrunk_network_trains_and_shrinks_again(case):
    net, example, _, coupling = case
    small = shrink(net, coupling, random_plan(coupling, np.random.default_rng(1)))
    small.train()
    if all(p.shape[0] > 1 or p.ndim < 2 for p in small.parameters()):
        small(example).square().sum().backward()
        assert all(p.grad is not None for p in small.parameters())
    small.eval()
    again = find_groups(small, example)
    if again.groups:
        plan = random_plan(again, np.random.default_rng(2))
        with torch.no_grad():
            assert worst(shrink(small, again, plan)(example), mask(small, again, plan)(example)) < 1e-12


def test_a_shrunk_network_becomes_a_file_that_runs(case, request):
    net, example, _, coupling = case
    name = request.node.callspec.params["case"]
    if name in ("projected lstm", "cells", "pre-norm transformer", "head width"):
        pytest.skip(
            "export has no rule for the first; the others are much like those tried, and slow to trace"
        )
    small = shrink(net, coupling, random_plan(coupling, np.random.default_rng(3))).float().eval()
    assert_parity(small, example.float() if example.is_floating_point() else example)


def test_what_a_mask_leaves_is_compared_honestly():
    """The comparison above fails when one surviving weight is changed."""
    net, example = seeded(residual).double(), CASES["residual"][1].double()
    coupling = find_groups(net, example)
    plan = KeepPlan({"stem.weight:0": (0, 3, 4)}, {"stem.weight:0": 8})
    masked, small = mask(net, coupling, plan), shrink(net, coupling, plan)
    with torch.no_grad():
        assert worst(small(example), masked(example)) < 1e-12
        small.fc.weight[0, 0] += 1e-6
        assert worst(small(example), masked(example)) > 1e-12


def test_what_hangs_together_by_hand():
    """A residual stream: both of its producers, their norms, and all that read it."""
    coupling = find_groups(seeded(residual), CASES["residual"][1])
    stream = coupling.group("stem.weight:0")
    assert {(m.tensor, m.axis) for m in stream.members} == {
        ("stem.weight", 0), ("stem.bias", 0), ("conv1.weight", 1), ("conv2.weight", 0), ("conv2.bias", 0),
        ("bn2.weight", 0), ("bn2.bias", 0), ("bn2.running_mean", 0), ("bn2.running_var", 0), ("fc.weight", 1),
    }  # fmt: skip
    assert all(m.units.tolist() == list(range(8)) for m in stream.members)
    inner = coupling.group("conv1.weight:0")
    assert {m.tensor for m in inner.members} == {
        "conv1.weight", "conv1.bias", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var",
        "conv2.weight",
    }  # fmt: skip


def test_flattened_channels_by_hand():
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(12, 2))
    group = find_groups(net, torch.zeros(2, 1, 4, 4)).group("0.weight:0")
    (columns,) = [m.units.tolist() for m in group.members if m.tensor == "2.weight"]
    assert columns == [0] * 4 + [1] * 4 + [2] * 4


def test_gates_and_heads_by_hand():
    lstm = find_groups(nn.Sequential(nn.LSTM(3, 2, batch_first=True), _First()), torch.zeros(2, 4, 3))
    assert not [g for g in lstm.groups if not g.of_input]  # its states are the network's output
    net, example, _ = CASES["lstm"]
    group = find_groups(seeded(net), example).group("rnn.weight_ih_l0:0")
    rows = {m.tensor: m.units.tolist() for m in group.members if m.axis == 0}
    assert rows["rnn.weight_ih_l0"] == rows["rnn.bias_hh_l0"] == list(range(7)) * 4
    net, example, _ = CASES["transformer"]
    heads = find_groups(seeded(net), example).group("blocks.layers.0.self_attn.in_proj_weight:0")
    assert heads.size == 4
    assert heads.members[0].units.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3] * 3


class _First(nn.Module):
    def forward(self, pair):
        return pair[0]


def test_modules_say_their_new_sizes():
    net = nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), conv(8, 16, groups=8), nn.Flatten(), nn.Linear(64, 3))
    net = seeded(lambda: net)
    coupling = find_groups(net, torch.zeros(2, 3, 2, 2))
    small = shrink(net, coupling, KeepPlan({"0.weight:0": (1, 4, 5)}, {"0.weight:0": 8}))
    assert (small[0].in_channels, small[0].out_channels) == (3, 3)
    assert small[1].num_features == 3
    assert (small[2].in_channels, small[2].out_channels, small[2].groups) == (3, 6, 3)
    assert (small[4].in_features, small[4].out_features) == (24, 3)
    assert [type(a) for a in small] == [type(a) for a in net]


def test_narrow_modules_stand_where_torchs_own_cannot():
    build, example, _ = CASES["transformer"]
    net = seeded(build)
    coupling = find_groups(net, example)
    plan = {
        "blocks.layers.0.self_attn.in_proj_weight:0": (1, 3),
        "blocks.layers.0.linear1.weight:0": (0, 5, 7),
    }
    sizes = {name: coupling.group(name).size for name in plan}
    small = shrink(net, coupling, KeepPlan(plan, sizes))
    assert isinstance(small.blocks.layers[0].self_attn, NarrowAttention)
    assert isinstance(small.blocks.layers[1].self_attn, nn.MultiheadAttention)
    assert isinstance(small.blocks.layers[0].norm1, nn.LayerNorm)
    stream = "blocks.layers.0.self_attn.out_proj.weight:0"
    small = shrink(net, coupling, KeepPlan({stream: tuple(range(10))}, {stream: 16}))
    assert isinstance(small.blocks.layers[1].norm2, NarrowLayerNorm)
    assert small.embed.embedding_dim == 10


def test_dead_inputs_disappear_and_are_named():
    net, example, _ = CASES["flat pixels"]
    net = seeded(net)
    coupling = find_groups(net, example)
    (pixels,) = [g for g in coupling.groups if g.of_input]
    plan = KeepPlan({pixels.name: (2, 3, 17)}, {pixels.name: 30})
    small = shrink(net, coupling, plan)
    assert isinstance(small, NarrowInput)
    assert small.net[1].in_features == 3
    assert small.kept(0).tolist() == [2, 3, 17]
    changed = example.clone()
    changed[:, 0, 0, 0] += 5.0  # pixel 0 is not read
    assert torch.equal(small(example), small(changed))


def test_sensors_disappear():
    build, example, _ = CASES["gru"]
    coupling = find_groups(seeded(build), example)
    (sensors,) = [g for g in coupling.groups if g.of_input]
    small = shrink(seeded(build), coupling, KeepPlan({sensors.name: (0, 4)}, {sensors.name: 5}))
    assert small.net.rnn.input_size == 2
    assert small.kept(0, 2).tolist() == [0, 4]


def test_shared_weights_stay_shared():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(9, 6)
            self.inner = nn.Linear(6, 6)
            self.out = nn.Linear(6, 9, bias=False)
            self.out.weight = self.embed.weight

        def forward(self, x):
            return self.out(torch.tanh(self.inner(self.embed(x))) * self.embed(x))

    net, x = Tied(), torch.arange(6).reshape(2, 3)
    coupling = find_groups(net, x)
    (group,) = coupling.groups
    plan = KeepPlan({group.name: (0, 2, 5)}, {group.name: 6})
    small = shrink(net, coupling, plan)
    assert small.out.weight is small.embed.weight and small.embed.weight.shape == (9, 3)
    assert torch.allclose(small(x), mask(net, coupling, plan)(x), atol=1e-6)


# --- what cannot shrink is left whole and named -------------------------------------------------------


def test_hard_coded_sizes_are_left_whole_and_named():
    class Hard(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc1, self.fc2 = nn.Conv2d(1, 6, 3), nn.Linear(216, 10), nn.Linear(10, 3)

        def forward(self, x):
            return self.fc2(self.fc1(self.conv(x).view(-1, 216)))

    coupling = find_groups(Hard(), torch.zeros(2, 1, 8, 8))
    assert [g.name for g in coupling.groups] == ["fc1.weight:0"]
    (note,) = coupling.notes
    assert "conv.weight:0" in note and "left whole" in note and "216" in note
    assert coupling.whole(Hard()) == ("conv.weight",)


class Branching(nn.Module):
    """The wide middle is a module of its own; what the branch handles is the network's."""

    def __init__(self):
        super().__init__()
        self.inside = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 6))
        self.one, self.other, self.last = nn.Linear(6, 7), nn.Linear(6, 7), nn.Linear(7, 2)

    def forward(self, x):
        x = self.inside(x)
        return self.last(self.one(x) if x.sum() > 0 else self.other(x))


def test_a_branch_on_values_leaves_its_own_streams_whole():
    coupling = find_groups(Branching(), torch.randn(4, 6))
    assert [g.name for g in coupling.groups] == ["inside.0.weight:0"]
    assert any("depends on values" in note for note in coupling.notes)
    assert any("was not used" in note for note in coupling.notes)


def test_an_unknown_operation_is_named():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            return self.c(torch.relu(self.b(torch.fft.fft(self.a(x)).real.to(x.dtype))))

    coupling = find_groups(Odd(), torch.zeros(2, 4))
    assert [g.name for g in coupling.groups if not g.of_input] == ["b.weight:0"]
    assert any("fft" in note for note in coupling.notes)


def test_attention_weights_that_are_read_keep_all_heads():
    class Looks(nn.Module):
        def __init__(self):
            super().__init__()
            self.attend, self.fc = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 2)

        def forward(self, x):
            y, weights = self.attend(x, x, x)
            return self.fc(y), weights

    groups = find_groups(Looks(), torch.randn(2, 3, 8)).groups
    assert not [g for g in groups if ("attend.in_proj_weight", 0) in {(m.tensor, m.axis) for m in g.members}]


# --- bad input ------------------------------------------------------------------------------------------


def test_an_example_of_the_wrong_shape():
    with pytest.raises(InputError, match=r"refuses the example input \(2, 3\).*Cure"):
        find_groups(nn.Linear(4, 2), torch.zeros(2, 3))
    with pytest.raises(InputError, match="holds no tensor"):
        find_groups(nn.Linear(4, 2), ([1.0],))


def test_a_plan_for_another_network():
    net, example, _ = CASES["flat pixels"]
    coupling = find_groups(net(), example)
    with pytest.raises(InputError, match="plan for another network"):
        shrink(net(), coupling, KeepPlan({"1.weight:0": (0,)}, {"1.weight:0": 9}))
    with pytest.raises(InputError, match=r"no group is called 'conv1\.weight:0'.*1\.weight:0"):
        shrink(net(), coupling, KeepPlan({"conv1.weight:0": (0,)}, {"conv1.weight:0": 9}))


def test_a_plan_that_empties_a_layer():
    net, example, _ = CASES["flat pixels"]
    coupling, plan = find_groups(net(), example), KeepPlan({"1.weight:0": ()}, {"1.weight:0": 8})
    for way in (shrink, mask):
        with pytest.raises(InputError, match=r"'1\.weight:0' keeps none of its 8 units.*keep at least one"):
            way(net(), coupling, plan)


def test_tied_groups_must_keep_equally_many():
    build, example, _ = CASES["lstm"]
    coupling = find_groups(seeded(build), example)
    with pytest.raises(InputError, match="equally many"):
        shrink(seeded(build), coupling, KeepPlan({"rnn.weight_ih_l0:0": (0, 1)}, {"rnn.weight_ih_l0:0": 7}))


def test_nothing_is_changed_by_looking():
    net, example, _ = CASES["residual"]
    net = seeded(net).train()
    twin = copy.deepcopy(net.state_dict())
    find_groups(net, example)
    assert net.training and all(torch.equal(twin[k], v) for k, v in net.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_the_same_groups_every_time():
    net, example, _ = CASES["dense"]
    first, second = (find_groups(seeded(net), example) for _ in range(2))
    assert [(g.name, g.size) for g in first.groups] == [(g.name, g.size) for g in second.groups]
