"""Whole branches: found where another way around is left, closed exactly, and nothing of them left behind."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import laconic
from laconic.errors import InputError
from laconic.export.graph_capture import capture
from laconic.records import KeepPlan
from laconic.schedules import Cubic
from laconic.sparsify.selection.budget import weights_saved
from laconic.structure import find_groups, mask, shrink
from laconic.structure.branches import Branches, Constant
from laconic.structure.finding_branches import find_branches
from tests.helpers.coupled_networks import CASES
from tests.helpers.networks import ResNet20, seeded
from tests.helpers.parity import assert_parity


class Bottleneck(nn.Module):
    """Three layers beside a shortcut, a linear classifier behind."""

    def __init__(self, shortcut: bool = True) -> None:
        super().__init__()
        self.a, self.na = nn.Conv2d(4, 3, 1), nn.BatchNorm2d(3)
        self.b, self.nb = nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5)
        self.c, self.nc = nn.Conv2d(5, 4, 1), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.na(self.a(x)))
        y = F.relu(self.nb(self.b(y)))
        y = self.nc(self.c(y))
        return self.head(F.relu(y + x if self.shortcut else y).mean((2, 3)))


class FeedForward(nn.Module):
    """What a Transformer does place by place, written with Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.up, self.down, self.head = nn.Linear(6, 16), nn.Linear(16, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.head((x + self.down(F.gelu(self.up(x)))).mean(1))


class TwoWays(nn.Module):
    """Two branches and nothing beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = (nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 4)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) + self.b(x)


def emptied(coupling, *names):
    return KeepPlan(dict.fromkeys(names, ()), {n: coupling.group(n).size for n in names})


BRANCHED = {
    "residual": (CASES["residual"][0], CASES["residual"][1], {"conv1.weight:0"}),
    "bottleneck": (Bottleneck, torch.zeros(2, 4, 5, 5), {"a.weight:0", "b.weight:0"}),
    "feed forward": (FeedForward, torch.zeros(2, 5, 6), {"up.weight:0"}),
    "two ways": (TwoWays, torch.zeros(2, 4), {"a.0.weight:0"}),
    "resnet": (
        ResNet20,
        torch.zeros(1, 3, 16, 16),
        {f"blocks.{k}.conv1.weight:0" for k in range(9)},
    ),
}


@pytest.fixture(scope="module", params=BRANCHED, ids=lambda name: name.replace(" ", "-"))
def branched(request):
    build, example, names = BRANCHED[request.param]
    net = seeded(build).double().eval()
    return net, example.double(), names, find_groups(net, example.double())


def test_branches_are_found(branched):
    _, _, names, coupling = branched
    assert set(coupling.branches.by_group) == names


def test_without_a_branch_is_with_it_at_zero(branched):
    net, example, names, coupling = branched
    x = torch.randn(3, *example.shape[1:], dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    for removed in [(name,) for name in names] + [tuple(names)]:
        plan = emptied(coupling, *removed)
        masked, small = mask(net, coupling, plan), shrink(net, coupling, plan)
        with torch.no_grad():
            got, wanted, before = small(x), masked(x), net(x)
        assert float((got - wanted).abs().max()) < 1e-12 * float(wanted.abs().max())
        assert float((got - before).abs().max()) > 1e-6  # the branch said something
        if len(removed) == 1:  # of all of them together the constants could switch every ReLU off
            assert float((got[0] - got[1]).abs().max()) > 1e-6
        closed = {n for name in removed for n in coupling.branches.by_group[name].modules}
        left = {n for n, _ in small.named_parameters()}
        # Of all that was there one number a channel may be left.
        assert {n for n in left if n.rpartition(".")[0] in closed} <= {f"{n}.value" for n in closed}


def test_numbers_saved_are_those_that_are_gone(branched):
    net, _, names, coupling = branched
    plan = emptied(coupling, *names)
    left = [(n, p.numel()) for n, p in shrink(net, coupling, plan).named_parameters()]
    constants = sum(count for name, count in left if name.endswith(".value"))
    before = sum(p.numel() for p in net.parameters())
    assert weights_saved(net, coupling)(plan) == before - (sum(c for _, c in left) - constants)


def test_what_then_feeds_nothing_goes_too():
    net = seeded(Bottleneck).double().eval()
    coupling = find_groups(net, torch.zeros(2, 4, 5, 5, dtype=torch.float64))
    branch = coupling.branches.by_group["b.weight:0"]
    assert set(branch.constant) == {"b", "nb", "c", "nc"} and {"a", "na", "c"} <= set(branch.unread)
    small = shrink(net, coupling, emptied(coupling, "b.weight:0"))
    assert [n for n, _ in small.named_parameters()] == ["nc.value", "head.weight", "head.bias"]


AROUND = ("residual", "transformer", "pre-norm transformer")


@pytest.mark.parametrize("name", [n for n in CASES if n not in AROUND])
def test_no_branch_where_nothing_leads_around(name):
    build, example, _ = CASES[name]
    assert not find_groups(seeded(build), example).branches.by_group


@pytest.mark.parametrize("name", AROUND[1:])
def test_a_transformer_without_its_middle_runs_on_torchs_fused_path_too(name):
    build, example, _ = CASES[name]
    net = seeded(build).eval()
    coupling = find_groups(net, example)
    assert set(coupling.branches.by_group) == {f"blocks.layers.{k}.linear1.weight:0" for k in (0, 1)}
    plan = emptied(coupling, "blocks.layers.0.linear1.weight:0")
    with torch.no_grad():
        got, wanted = shrink(net, coupling, plan)(example), mask(net, coupling, plan)(example)
    assert torch.allclose(got, wanted, atol=1e-5)


def test_a_chain_has_none_and_is_refused():
    net = seeded(lambda: Bottleneck(shortcut=False)).eval()
    coupling = find_groups(net, torch.zeros(2, 4, 5, 5))
    assert not coupling.branches.by_group
    with pytest.raises(InputError, match=r"'b\.weight:0' keeps none of its 5 units.*keep at least one"):
        shrink(net, coupling, emptied(coupling, "b.weight:0"))


def test_of_two_ways_one_must_stay():
    net = seeded(TwoWays)
    coupling = find_groups(net, torch.zeros(2, 4))
    assert isinstance(coupling.branches, Branches) and "b.0.weight:0" not in coupling.branches
    with pytest.raises(InputError, match="cut the network in two"):
        shrink(net, coupling, emptied(coupling, "a.0.weight:0", "b.0.weight:0"))


class Joined(nn.Module):
    """Two ways side by side; ``whole``: one number for a whole batch."""

    def __init__(self, whole: bool) -> None:
        super().__init__()
        self.a, self.b = (nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 4)) for _ in range(2))
        self.whole = whole

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x)).mean() if self.whole else torch.cat([self.a(x), self.b(x)], 1)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("batch", [1, 2])
def test_what_a_branch_says_must_fit_any_batch_and_not_be_all(whole, batch):
    """One number a channel cannot be joined to a batch; and a chain is no branch, whatever its shape."""
    net = seeded(lambda: Joined(whole))
    coupling = find_groups(net, torch.zeros(batch, 4))
    assert {"a.0.weight:0", "b.0.weight:0"} <= {g.name for g in coupling.groups}
    assert not coupling.branches.by_group


@pytest.mark.parametrize("name", ["residual", "bottleneck", "feed forward"])
def test_an_example_of_one_is_enough(name):
    build, example, names = BRANCHED[name]
    assert set(find_groups(seeded(build), example[:1]).branches.by_group) == names


def test_tied_groups_stay():
    net = seeded(TwoWays).eval()
    coupling = find_groups(net, torch.zeros(2, 4))
    tied = replace(coupling, tied=(("a.0.weight:0", "b.0.weight:0"),))
    one, other = ((torch.randn(2, 4, generator=torch.Generator().manual_seed(k)),) for k in range(2))
    for given, found in ((coupling, {"a.0.weight:0"}), (tied, set())):
        branches = find_branches(net, given, one, other, torch.allclose, 1e-6)
        assert set(branches.by_group) == found


def test_some_units_elsewhere_go_at_the_same_time():
    net = seeded(ResNet20).double().eval()
    coupling = find_groups(net, torch.zeros(1, 3, 16, 16, dtype=torch.float64))
    plan = KeepPlan(
        {"blocks.1.conv1.weight:0": (), "blocks.2.conv1.weight:0": (0, 3), "blocks.5.conv1.weight:0": (1,)},
        {"blocks.1.conv1.weight:0": 4, "blocks.2.conv1.weight:0": 4, "blocks.5.conv1.weight:0": 8},
    )
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        got, wanted = shrink(net, coupling, plan)(x), mask(net, coupling, plan)(x)
    assert float((got - wanted).abs().max()) < 1e-12 * float(wanted.abs().max())


class WidenedBottleneck(nn.Module):
    """A bottleneck on a stream that the network makes itself, so that its channels can be removed."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = nn.Conv2d(2, 4, 1), Bottleneck()

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.stem(x))


@pytest.mark.parametrize(
    ("kind", "shape", "stream", "branch"),
    [
        (FeedForward, (3, 5, 6), "first.weight:0", "up.weight:0"),
        (WidenedBottleneck, (3, 2, 6, 6), "stem.weight:0", "block.b.weight:0"),
    ],
)
def test_a_branch_goes_while_the_stream_that_it_adds_to_shrinks(kind, shape, stream, branch):
    net, x = seeded(kind).eval(), torch.randn(shape, generator=torch.Generator().manual_seed(1))
    coupling = find_groups(net, x)
    sizes = {name: coupling.group(name).size for name in (stream, branch)}
    for kept in ((1,), (0, 3)):
        plan = KeepPlan({stream: kept, branch: ()}, sizes)
        small = shrink(net, coupling, plan)
        assert torch.allclose(small(x), mask(net, coupling, plan)(x), atol=1e-5)
        assert len(kept) in [m.value.numel() for m in small.modules() if isinstance(m, Constant)]


def test_the_network_without_a_branch_trains_and_travels():
    net = seeded(ResNet20).eval()
    coupling = find_groups(net, torch.zeros(1, 3, 16, 16))
    small = shrink(net, coupling, emptied(coupling, "blocks.1.conv1.weight:0"))
    said = small.get_parameter("blocks.1.bn2.value")
    assert said.shape == (1, 4, 1, 1)
    small.train()
    small(torch.randn(4, 3, 16, 16)).square().sum().backward()
    assert said.grad is not None and bool((said.grad != 0).any())
    assert_parity(small.eval(), torch.randn(2, 3, 16, 16))
    again = copy.deepcopy(small)
    again.load_state_dict(small.state_dict())
    assert torch.equal(again.get_parameter("blocks.1.bn2.value"), said)


def test_a_branch_that_says_zero_leaves_nothing():
    """Neither a parameter nor an operation: the next layer reads what came before the branch."""
    net = seeded(ResNet20).eval()
    with torch.no_grad():
        last = net.get_submodule("blocks.1.bn2")
        last.weight.zero_()
        last.bias.zero_()
    coupling = find_groups(net, torch.zeros(1, 3, 16, 16))
    small = shrink(net, coupling, emptied(coupling, "blocks.1.conv1.weight:0"))
    assert not [n for n in small.state_dict() if n.startswith("blocks.1.")]
    with_it, without = (
        [node.op for node in capture(m, torch.zeros(1, 3, 16, 16)).graph.nodes] for m in (net, small)
    )
    removed = ["conv", "batch_norm", "relu", "conv", "batch_norm", "add", "relu"]
    assert sorted(without + removed) == sorted(with_it)
    assert_parity(small, torch.randn(2, 3, 16, 16))


def test_a_constant_that_is_zero_is_no_parameter():
    assert not list(Constant(torch.zeros(1, 3)).state_dict())
    assert [n for n, _ in Constant(torch.ones(1, 3)).named_parameters()] == ["value"]


def test_a_dead_branch_is_removed():
    from laconic.methods.common.removal import remove_dead_units
    from laconic.methods.contract import Compressed

    net = seeded(Bottleneck).eval()
    with torch.no_grad():
        for part in (net.b, net.nb):
            for p in part.parameters():
                p.zero_()
        net.c.weight.zero_()
    x = torch.randn(2, 4, 5, 5)
    done = remove_dead_units(Compressed(net, {}, {}, x))
    assert done.facts["kept_units"]["b.weight:0"] == [] and done.facts["units"]["b"] == [5, 0]
    assert isinstance(done.module.get_submodule("nc"), Constant)
    assert torch.allclose(done.module(x), net(x), atol=1e-6)


@pytest.mark.parametrize("multiple", [1, 4])
def test_first_order_pruning_takes_whole_branches(multiple):
    """With min_units=0: what is trained to be useless goes, and the rest of the network runs without it."""
    net = seeded(Bottleneck)
    x = torch.randn(64, 4, 5, 5, generator=torch.Generator().manual_seed(1))
    y = (x.mean((1, 2, 3)) > 0).long()
    method = laconic.methods.TaylorPruning(
        0.05, min_units=0, multiple=multiple, every=1, grid=None, schedule=Cubic(end=0.5)
    )
    net = laconic.prepare(net, method, x[:2], data_size=64, total_steps=6)
    optimizer = torch.optim.SGD(laconic.param_groups(net, 0.05))
    for _ in range(6):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
        laconic.step(net, terms=len(x))
    small = laconic.convert(net)
    assert not small.facts["kept_units"]["a.weight:0"] or not small.facts["kept_units"]["b.weight:0"]
    assert small.facts["macs_after"] <= 0.05 * small.facts["macs_before"]
    assert torch.allclose(small.module.eval()(x), net.eval()(x), atol=1e-5)
    # While training the branch was held at zero, so nothing of it is left.
    assert not [n for n, _ in small.module.named_parameters() if not n.startswith("head")]


def test_min_units_above_zero_keep_every_branch():
    method = laconic.methods.TaylorPruning(0.05, min_units=1)
    with pytest.raises(InputError, match="smaller min_units"):
        laconic.prepare(seeded(Bottleneck), method, torch.zeros(2, 4, 5, 5), data_size=4)
