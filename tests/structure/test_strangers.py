"""Networks in the manner of other libraries: groups found, masked equal to shrunk, dead units removed."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from laconic.errors import InputError, ModelError
from laconic.methods.common.removal import remove_dead_units
from laconic.methods.contract import Compressed
from laconic.networks import computed_weights, folded
from laconic.records import KeepPlan
from laconic.sparsify.scores.magnitude import l1_groups
from laconic.structure import find_groups, mask, shrink
from laconic.structure.branches import Constant
from laconic.structure.macs import weight_macs
from laconic.structure.narrow import NarrowLayerNorm
from laconic.structure.trials import random_plan
from tests.helpers.coupled_networks import Net, conv, image
from tests.helpers.networks import seeded
from tests.helpers.strangers import STRANGERS, Matrix, PaddedEncoder, ScaledBlocks


def worst(got, wanted):
    """Largest difference over the largest number."""
    return float((got - wanted).abs().max() / wanted.abs().max())


def doubled(inputs):
    return tuple(x.double() if x.is_floating_point() else x for x in inputs)


def run(net, inputs):
    with torch.no_grad():
        return net.eval()(*inputs)


@pytest.fixture(scope="module", params=STRANGERS, ids=lambda name: name.replace(" ", "-"))
def stranger(request):
    build, inputs, names = STRANGERS[request.param]
    net, inputs = seeded(build).double(), doubled(inputs)
    return net, inputs, names, find_groups(net, inputs)


def test_the_groups_are_found(stranger):
    net, _, names, coupling = stranger
    assert {g.name for g in coupling.groups if not g.of_input} == names
    assert not coupling.whole(folded(net)[0])


@pytest.mark.parametrize("seed", range(3))
def test_masked_equals_shrunk(stranger, seed):
    net, inputs, _, coupling = stranger
    before = {k: v.clone() for k, v in net.state_dict().items()}
    plan = random_plan(coupling, np.random.default_rng(seed))
    masked, small = mask(net, coupling, plan), shrink(net, coupling, plan)
    assert worst(run(small, inputs), run(masked, inputs)) < 1e-12
    assert worst(run(small, inputs), run(net, inputs)) > 1e-6
    assert computed_weights(small) == computed_weights(masked) == ()
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in net.parameters())
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_one_group_at_a_time(stranger):
    net, inputs, _, coupling = stranger
    for group in coupling.groups:
        plan = KeepPlan({group.name: tuple(range(1, group.size))}, {group.name: group.size})
        small, masked = shrink(net, coupling, plan), mask(net, coupling, plan)
        assert worst(run(small, inputs), run(masked, inputs)) < 1e-12, group.name


def test_dead_units_are_removed(stranger):
    net, inputs, names, coupling = stranger
    sizes = {name: coupling.group(name).size for name in names}
    masked = mask(net, coupling, KeepPlan({n: tuple(range(1, s)) for n, s in sizes.items()}, sizes))
    done = remove_dead_units(Compressed(masked, {}, {}, inputs))
    assert done.facts["kept_units"] == {name: list(range(1, size)) for name, size in sizes.items()}
    assert sum(was - left for was, left in done.facts["units"].values()) == len(sizes)
    assert worst(run(done.module, inputs), run(masked, inputs)) < 1e-12


def test_a_smaller_network_trains(stranger):
    net, inputs, _, coupling = stranger
    small = shrink(net, coupling, random_plan(coupling, np.random.default_rng(5), at_least=0.5)).train()
    small(*inputs).square().sum().backward()
    assert all(p.grad is not None for p in small.parameters())


# --- row by row -----------------------------------------------------------------------------------------


def test_what_is_padded_in_stays_or_goes_with_its_channel():
    """A channel of constants that padding adds is nobody's: what reads it stays."""
    net, inputs, _ = STRANGERS["padded channels"]
    group = find_groups(seeded(net), inputs).group("a.weight:0")
    (reads,) = [m.units.tolist() for m in group.members if m.tensor == "b.weight"]
    assert reads == [*range(7), -1]


def test_an_activation_in_place_behind_a_closed_branch_leaves_its_constant_alone():
    build, inputs, _ = STRANGERS["squeeze and excite"]
    net = seeded(build)
    coupling = find_groups(net, inputs)
    assert "down.weight:0" in coupling.branches
    small = shrink(net, coupling, KeepPlan({"down.weight:0": ()}, {"down.weight:0": 4}))
    values = [m.value.clone() for m in small.modules() if isinstance(m, Constant)]
    assert len(values) == 2
    small.train()(*inputs).sum().backward()
    run(small, inputs)
    assert all(map(torch.equal, values, [m.value for m in small.modules() if isinstance(m, Constant)]))


def test_a_constant_is_not_written_over():
    said = Constant(torch.tensor([[-1.0, 2.0]]))
    F.relu(said(torch.zeros(1, 2)), inplace=True)
    assert said.value.tolist() == [[-1.0, 2.0]]


def test_scales_and_slopes_of_channels_go_with_them():
    build, inputs, _ = STRANGERS["scaled blocks"]
    coupling = find_groups(seeded(build), inputs)
    stream = coupling.group("stem.weight:0")
    assert {
        ("gamma", 0),
        ("kind.weight", 1),
        ("norm.weight", 0),
        ("deep.weight", 0),
        ("narrow.weight", 0),
    } <= {(m.tensor, m.axis) for m in stream.members}
    assert ("slope.weight", 0) in {(m.tensor, m.axis) for m in coupling.group("wide.weight:0").members}
    plan = {"stem.weight:0": (0, 2, 5), "wide.weight:0": (1, 4)}
    small = shrink(seeded(ScaledBlocks), coupling, KeepPlan(plan, {"stem.weight:0": 8, "wide.weight:0": 12}))
    assert small.gamma.shape == (3, 1, 1) and small.slope.weight.shape == (2,)
    assert isinstance(small.norm, NarrowLayerNorm) and small.norm.axis == 1


def test_a_matrix_the_other_way_round_counts():
    net = seeded(lambda: nn.Sequential(nn.Linear(3, 5), nn.ReLU(), Matrix(4, 5)))
    coupling = find_groups(net, image(2, 3))
    assert weight_macs(net, coupling, image(2, 3)).total() == 3 * 5 + 5 * 4


def test_computed_weights_are_named():
    build, inputs, _ = STRANGERS["norms by parametrizations"]
    notes = find_groups(seeded(build), inputs).notes
    assert [n.partition(" is computed")[0] for n in notes] == ["0.weight", "2.weight"]


def test_a_score_of_a_computed_weight_is_refused_by_name():
    build, inputs, _ = STRANGERS["norms by parametrizations"]
    net = seeded(build)
    coupling = find_groups(net, inputs)
    with pytest.raises(ModelError, match=r"'0\.weight' is computed.*Cure: hand in laconic.networks.folded"):
        l1_groups(net, coupling)
    assert l1_groups(folded(net)[0], coupling)["0.weight:0"].shape == (8,)


def test_every_group_that_vanishes_is_named():
    def sums(n, x):
        x = n.a(x)
        return n.c(F.relu(n.b(x + x.mean(1, keepdim=True)).cumsum(1)).mean((2, 3)))

    net = seeded(lambda: Net(sums, a=conv(3, 8), b=conv(8, 6), c=nn.Linear(6, 2)))
    coupling = find_groups(net, image(2, 3, 6, 6))
    told = {name: [n for n in coupling.notes if name in n] for name in ("a.weight", "b.weight")}
    for name, lines in told.items():
        assert lines or f"{name}:0" in {g.name for g in coupling.groups}
    assert "a.weight:0" not in {g.name for g in coupling.groups} and "mean" in told["a.weight"][0]


# --- how networks and examples are handed in --------------------------------------------------------------


class Named(nn.Module):
    """Three inputs, of which one is seldom given."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.fc = nn.Linear(4, 6), nn.Linear(5, 6), nn.Linear(6, 2)

    def forward(self, x, extra=None, y=None, scale=1.0):
        return self.fc(torch.relu(self.a(x) + self.b(y)) * scale)


@pytest.mark.parametrize("form", ["names", "list", "flag"])
def test_an_example_in_any_form(form):
    x, y = image(2, 4), image(2, 5)
    net = seeded(Named) if form != "list" else seeded(PaddedEncoder)
    example = {"y": y, "x": x}
    if form == "flag":
        example["scale"] = 2.0
    if form == "list":
        example = list(STRANGERS["padded encoder"][1])
    coupling = find_groups(net, example)
    names = [g.name for g in coupling.groups if not g.of_input]
    assert ("a.weight:0" in names) if form != "list" else len(names) == 5
    plan = random_plan(coupling, np.random.default_rng(0))
    small, masked = shrink(net, coupling, plan).eval(), mask(net, coupling, plan).eval()
    with torch.no_grad():
        if form == "list":
            assert torch.allclose(small(*example), masked(*example), atol=1e-5)
        else:
            assert plan.removed(next(g.name for g in coupling.groups if g.of_input))
            assert torch.allclose(small(**example), masked(**example), atol=1e-6)
    assert weight_macs(net, coupling, example).total() > 0


def test_a_dictionary_is_enough_for_removal():
    net = seeded(Named)
    with torch.no_grad():
        for p in (net.a.weight[2], net.b.weight[2], net.a.bias[2:3], net.b.bias[2:3], net.fc.weight[:, 2]):
            p.zero_()
    example = {"x": image(2, 4), "y": image(2, 5)}
    done = remove_dead_units(Compressed(net, {}, {}, example))
    assert done.module.a.out_features == 5
    assert torch.allclose(done.module(**example), net(**example), atol=1e-6)


def test_a_name_that_forward_does_not_have():
    with pytest.raises(InputError, match=r"Named's forward has no parameter 'z'.*Cure: one of x, extra, y"):
        find_groups(Named(), {"x": image(2, 4), "z": image(2, 5)})


def test_a_wrapped_network_is_the_network_within():
    net, inputs = seeded(Named), {"x": image(2, 4), "y": image(2, 5)}
    plain = [g.name for g in find_groups(net, inputs).groups]
    for wrapped in (nn.DataParallel(net), torch.optim.swa_utils.AveragedModel(net)):
        coupling = find_groups(wrapped, inputs)
        assert [g.name for g in coupling.groups] == plain
        small = shrink(wrapped, coupling, random_plan(coupling, np.random.default_rng(1)))
        assert small(**inputs).shape == (2, 2)


def test_a_scripted_network_is_refused():
    with pytest.raises(ModelError, match="scripted.*Cure"):
        find_groups(torch.jit.script(nn.Linear(3, 4)), image(2, 3))


class Turned(nn.Module):
    """A hidden layer whose units change places by a fixed rule."""

    def __init__(self, turn):
        super().__init__()
        self.first, self.turn, self.second = nn.Linear(5, 8), turn, nn.Linear(8, 2)

    def forward(self, x):
        return self.second(self.turn(self.first(x)))


@pytest.mark.parametrize(
    "turn",
    [
        lambda h: h.roll(1, 1),
        lambda h: h.roll(3),
        lambda h: torch.cat([h[:, 4:], h[:, :4]], 1),
        lambda h: torch.cat([h[:, ::2], h[:, 1::2]], 1),
    ],
    ids=["roll", "roll over all", "halves", "odd and even"],
)
def test_units_that_a_fixed_rule_moves_stay_whole(turn):
    """Of fewer units the same rule would move other ones."""
    for seed in range(8):
        torch.manual_seed(seed)
        coupling = find_groups(Turned(turn).double(), torch.randn(3, 5, dtype=torch.float64), seed=seed)
        assert "first.weight:0" not in [g.name for g in coupling.groups], seed


def test_a_roll_along_pixels_moves_no_units():
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 2, 1)

        def forward(self, x):
            return self.second(self.first(x).roll((1, 2), (2, 3)))

    assert [g.size for g in find_groups(Shifted(), torch.randn(2, 1, 8, 8)).groups] == [6]
