"""Keep plans from scores: shares, ties, minimum units, multiples, and always the same."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laconic.errors import InputError, NonFiniteError
from laconic.sparsify.scores import random_groups
from laconic.sparsify.selection.share import plan_by_ratio
from laconic.structure import Coupling, Group, find_groups, shrink
from laconic.structure.plan import check_plan
from tests.helpers.coupled_networks import CASES
from tests.helpers.networks import seeded


def coupling_of(*sizes, tied=()):
    return Coupling(tuple(Group(f"g{k}:0", n, ()) for k, n in enumerate(sizes)), tied=tied)


def drawn(coupling, seed=0):
    return random_groups(coupling, np.random.default_rng(seed))


couplings = st.lists(st.integers(2, 30), min_size=1, max_size=5).map(lambda sizes: coupling_of(*sizes))
shares = st.floats(0, 0.99)


@settings(max_examples=100, deadline=None)
@given(couplings, shares, st.integers(0, 99))
def test_each_group_loses_its_worst(coupling, ratio, seed):
    scores = drawn(coupling, seed)
    plan = plan_by_ratio(scores, coupling, ratio)
    for group in coupling.groups:
        removed = min(int(ratio * group.size + 1e-9), group.size - 1)
        worst = sorted(range(group.size), key=lambda k: scores[group.name][k])[:removed]
        assert set(plan.removed(group.name)) == set(worst)


@settings(max_examples=100, deadline=None)
@given(couplings, shares, st.integers(0, 99), st.integers(1, 4))
def test_together_the_worst_of_all_go(coupling, ratio, seed, min_units):
    scores = drawn(coupling, seed)
    plan = plan_by_ratio(scores, coupling, ratio, together=True, min_units=min_units)
    everyone = sorted((s, g.name) for g in coupling.groups for s in scores[g.name])
    left, counts = int(ratio * len(everyone) + 1e-9), {g.name: g.size for g in coupling.groups}
    for _, name in everyone:
        if left and counts[name] > min_units:
            counts[name], left = counts[name] - 1, left - 1
    assert {name: len(kept) for name, kept in plan.kept.items()} == counts
    for name, kept in plan.kept.items():
        removed = plan.removed(name)
        assert not removed or max(scores[name][list(removed)]) <= min(scores[name][list(kept)])


@settings(max_examples=100, deadline=None)
@given(couplings, shares, shares, st.booleans(), st.integers(1, 5), st.integers(1, 5), st.integers(0, 9))
def test_plans_are_nested_and_respect_limits(coupling, one, other, together, min_units, multiple, seed):
    options = {"together": together, "min_units": min_units, "multiple": multiple}
    scores = drawn(coupling, seed)
    few, many = (plan_by_ratio(scores, coupling, r, **options) for r in sorted((one, other)))
    for group in coupling.groups:
        assert set(many.kept[group.name]) <= set(few.kept[group.name])
        for plan in (few, many):
            count = len(plan.kept[group.name])
            assert count >= min(min_units, group.size)
            assert count % multiple == 0 or count == group.size


def test_equal_scores_go_by_position():
    coupling = coupling_of(4, 4)
    scores = {"g0:0": np.ones(4), "g1:0": np.ones(4)}
    plan = plan_by_ratio(scores, coupling, 0.5, together=True)
    assert plan == plan_by_ratio(scores, coupling, 0.5, together=True)
    assert plan.kept["g0:0"] == (3,) and plan.kept["g1:0"] == (1, 2, 3)


def test_tied_groups_keep_equally_many_each_its_best():
    coupling = coupling_of(4, 4, 4, tied=(("g0:0", "g2:0"),))
    scores = {
        "g0:0": np.array([1.0, 2, 3, 4]),
        "g1:0": np.array([1.5, 3.5, 4.5, 9]),
        "g2:0": np.array([8.0, 7, 6, 5]),
    }
    plan = plan_by_ratio(scores, coupling, 0.5)
    assert dict(plan.kept) == {"g0:0": (2, 3), "g1:0": (2, 3), "g2:0": (0, 1)}
    # Together: the importance of the pair's steps is (1 + 5) / 2, (2 + 6) / 2, ... a unit.
    plan = plan_by_ratio(scores, coupling, 3 / 12, together=True)
    assert {n: len(k) for n, k in plan.kept.items()} == {"g0:0": 3, "g1:0": 3, "g2:0": 3}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("together", [False, True])
def test_real_plans_shrink_real_networks(name, together):
    build, example, _ = CASES[name]
    net = seeded(build)
    coupling = find_groups(net, example)
    plan = plan_by_ratio(drawn(coupling), coupling, 0.4, together=together, min_units=2)
    check_plan(plan, coupling)
    if name != "projected lstm" or len(plan.kept["rnn.weight_ih_l0:0"]) != len(
        plan.kept["rnn.weight_hr_l0:0"]
    ):
        small = shrink(net, coupling, plan)
        assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in net.parameters())


def test_shares_by_group():
    coupling = coupling_of(10, 10, 4, 4, tied=(("g2:0", "g3:0"),))
    scores = drawn(coupling)
    plan = plan_by_ratio(scores, coupling, {"g1:0": 0.2999, "g2:0": 0.25, "g3:0": 0.25})
    assert [len(k) for k in plan.kept.values()] == [10, 8, 3, 3]
    with pytest.raises(InputError, match=r"g2:0, g3:0 must keep equally many.*\[0\.0, 0\.25\]"):
        plan_by_ratio(scores, coupling, {"g2:0": 0.25})
    with pytest.raises(InputError, match="no group is called 'x'"):
        plan_by_ratio(scores, coupling, {"x": 0.25})
    with pytest.raises(InputError, match="'g1:0' is to lose 0.5 of its units, but has no scores"):
        plan_by_ratio({"g0:0": scores["g0:0"]}, coupling, {"g1:0": 0.5})
    with pytest.raises(InputError, match="cannot be met together"):
        plan_by_ratio(scores, coupling, {"g1:0": 0.5}, together=True)


def test_floating_point_does_not_cost_a_unit():
    coupling = coupling_of(100)
    assert len(plan_by_ratio(drawn(coupling), coupling, 0.29).removed("g0:0")) == 29


def test_groups_without_scores_stay_whole():
    coupling = coupling_of(4, 4)
    assert list(plan_by_ratio({"g1:0": np.arange(4.0)}, coupling, 0.5).kept) == ["g1:0"]
    assert not plan_by_ratio({}, coupling, 0.5, together=True).kept


def test_bad_input():
    coupling = coupling_of(4, 4, tied=(("g0:0", "g1:0"),))
    scores = drawn(coupling)
    for ratio in (-0.1, 1.0, float("nan")):
        with pytest.raises(InputError, match=r"must lie in \[0, 1\)"):
            plan_by_ratio(scores, coupling, ratio)
    with pytest.raises(NonFiniteError, match="selection: 1 of 4 scores of 'g1:0' are not finite"):
        plan_by_ratio({**scores, "g1:0": np.array([0, np.nan, 0, 0])}, coupling, 0.5)
    with pytest.raises(InputError, match=r"'g0:0' has 4 units, its scores have shape \(5,\)"):
        plan_by_ratio({**scores, "g0:0": np.zeros(5)}, coupling, 0.5)
    with pytest.raises(InputError, match="'g1:0' has no score, but must keep as many units as 'g0:0'"):
        plan_by_ratio({"g0:0": np.zeros(4)}, coupling, 0.5)
    with pytest.raises(InputError, match="min_units >= 0 and multiple >= 1, got -1 and 1"):
        plan_by_ratio(scores, coupling, 0.5, min_units=-1)
    assert all(plan_by_ratio(scores, coupling, 0.99, min_units=0).kept.values())  # no branch: one unit stays
