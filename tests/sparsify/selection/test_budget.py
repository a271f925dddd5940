"""Plans under a budget: against a plain greedy search, against brute force, and against real networks."""

import itertools

import numpy as np
import pytest

from laconic.errors import InputError
from laconic.records import KeepPlan
from laconic.sparsify.scores import random_groups
from laconic.sparsify.selection.budget import plan_by_budget, unit_savings, weights_saved
from laconic.sparsify.selection.limit import plan_above
from laconic.sparsify.selection.share import plan_by_ratio
from laconic.structure import Coupling, Group, find_groups, shrink
from laconic.structure.branches import Branch, Branches
from laconic.structure.trials import random_plan
from tests.helpers.coupled_networks import CASES
from tests.helpers.networks import seeded


def real(name):
    build, example, _ = CASES[name]
    net = seeded(build)
    return net, find_groups(net, example)


@pytest.mark.parametrize("name", CASES)
def test_weights_saved_are_those_of_the_shrunk_network(name):
    net, coupling = real(name)
    saved = weights_saved(net, coupling)
    whole = sum(p.numel() for p in net.parameters())
    for seed in range(3):
        plan = random_plan(coupling, np.random.default_rng(seed))
        assert saved(plan) == whole - sum(p.numel() for p in shrink(net, coupling, plan).parameters())
    assert saved(KeepPlan({}, {})) == 0


@pytest.mark.parametrize("name", ["residual", "dense", "lstm", "transformer"])
@pytest.mark.parametrize("share", [0.1, 0.4, 0.7])
@pytest.mark.parametrize("multiple", [1, 2])
def test_the_greedy_choice_of_every_step_by_looking_at_all(name, share, multiple):
    """The queue asks few questions; asking all of them at each step gives the same plan."""
    net, coupling = real(name)
    scores, saved = random_groups(coupling, np.random.default_rng(1)), weights_saved(net, coupling)
    target = share * sum(p.numel() for p in net.parameters())
    plan = plan_by_budget(scores, coupling, saved, target, multiple=multiple)
    assert saved(plan) >= target
    assert plan == look_at_all(scores, coupling, saved, target, multiple)


def look_at_all(scores, coupling, saved, target, multiple):
    from laconic.structure.coupling.groups import tied_sets

    sets = tied_sets(coupling)
    order = {g.name: np.argsort(scores[g.name], kind="stable").tolist() for g in coupling.groups}
    counts = {names: coupling.group(names[0]).size for names in sets}

    def plan_of(counts):
        kept = {n: tuple(sorted(order[n][len(order[n]) - c :])) for names, c in counts.items() for n in names}
        return KeepPlan(kept, {g.name: g.size for g in coupling.groups})

    while saved(plan_of(counts)) < target:
        trials = []
        for k, names in enumerate(sets):
            after = (counts[names] - 1) // multiple * multiple
            if after >= 1:
                size = len(order[names[0]])
                lost = sum(scores[n][u] for n in names for u in order[n][size - counts[names] : size - after])
                gained = saved(plan_of({**counts, names: after})) - saved(plan_of(counts))
                trials.append((lost / gained, k, after))
        _, k, after = min(trials)
        counts[sets[k]] = after
    return plan_of(counts)


def test_equal_costs_give_the_cheapest_plan_there_is():
    """With one cost for all units the greedy plan loses the least score of all plans that save enough."""
    coupling = Coupling(tuple(Group(f"g{k}:0", 3, ()) for k in range(3)))
    scores = random_groups(coupling, np.random.default_rng(2))
    plan = plan_by_budget(scores, coupling, unit_savings(dict.fromkeys(scores, 2.0)), 8.0)
    removed = {n: plan.removed(n) for n in scores}
    assert sum(len(r) for r in removed.values()) == 4

    def lost(removed):
        return sum(scores[n][list(r)].sum() for n, r in removed.items())

    subsets = [r for size in range(3) for r in itertools.combinations(range(3), size)]
    plans = (dict(zip(scores, each, strict=True)) for each in itertools.product(subsets, repeat=3))
    best = min(lost(p) for p in plans if sum(len(r) for r in p.values()) == 4)
    assert lost(removed) == pytest.approx(best)


def test_more_to_save_removes_more_and_never_other_units():
    net, coupling = real("residual")
    scores, saved = random_groups(coupling, np.random.default_rng(3)), weights_saved(net, coupling)
    plans = [plan_by_budget(scores, coupling, saved, t) for t in (0, 100, 300, 600, 1200)]
    assert not any(plans[0].removed(n) for n in scores)
    for few, many in itertools.pairwise(plans):
        assert all(set(many.kept[n]) <= set(few.kept[n]) for n in scores)


def test_min_units_and_multiples_hold():
    net, coupling = real("residual")
    scores, saved = random_groups(coupling, np.random.default_rng(3)), weights_saved(net, coupling)
    plan = plan_by_budget(scores, coupling, saved, 800, min_units=3, multiple=4)
    assert all(len(k) % 4 == 0 or len(k) == plan.sizes[n] for n, k in plan.kept.items())
    with pytest.raises(InputError, match=r"at least 3 units in multiples of 4 .* less than 1e\+06.*Cure"):
        plan_by_budget(scores, coupling, saved, 1e6, min_units=3, multiple=4)


def test_what_the_last_step_saved_too_much_is_given_back():
    """Steps of 4 units, the last of which saves far more than is asked for."""
    coupling = Coupling((Group("cheap:0", 4, ()), Group("fair:0", 8, ()), Group("dear:0", 8, ())))
    scores = {"cheap:0": np.full(4, 0.5), "fair:0": np.full(8, 1.0), "dear:0": np.full(8, 30.0)}
    saved = unit_savings({"cheap:0": 1.0, "fair:0": 1.0, "dear:0": 20.0})
    counts = []
    for give_back in (False, True):
        plan = plan_by_budget(scores, coupling, saved, 30, multiple=4, give_back=give_back)
        assert saved(plan) >= 30
        counts.append([len(k) for k in plan.kept.values()])
    # A min_units of 1 is rounded up to four: of `cheap` nothing may go, of the others one step.
    assert counts == [[4, 4, 4], [4, 8, 4]]


def test_a_branch_may_lose_all_its_units():
    groups = (Group("branch:0", 4, ()), Group("chain:0", 4, ()))
    coupling = Coupling(groups, branches=Branches({"branch:0": Branch(())}))
    scores = {"branch:0": np.ones(4), "chain:0": np.ones(4)}
    saved = unit_savings({"branch:0": 1.0, "chain:0": 1.0})
    for min_units, most in ((0, 7), (1, 6)):
        plan = plan_by_budget(scores, coupling, saved, most, min_units=min_units)
        assert [len(k) for k in plan.kept.values()] == [min_units, 1]
        with pytest.raises(InputError, match=f"saves {most}, which is less than {most + 1}"):
            plan_by_budget(scores, coupling, saved, most + 1, min_units=min_units)
    plan = plan_by_ratio(scores, coupling, 0.99, min_units=0)
    assert [len(k) for k in plan.kept.values()] == [1, 1]
    assert [len(k) for k in plan_above(scores, coupling, 5.0, min_units=0).kept.values()] == [0, 1]


def test_what_saves_nothing_goes_last():
    coupling = Coupling((Group("free:0", 3, ()), Group("dear:0", 3, ())))
    scores = {"free:0": np.full(3, 0.1), "dear:0": np.full(3, 9.0)}
    plan = plan_by_budget(scores, coupling, unit_savings({"dear:0": 1.0}), 2.0)
    assert [len(k) for k in plan.kept.values()] == [3, 1]
    with pytest.raises(InputError, match="saves 2, which is less than 3"):
        plan_by_budget(scores, coupling, unit_savings({"dear:0": 1.0}), 3.0)


def test_negative_scores_are_refused():
    coupling = Coupling((Group("a:0", 2, ()),))
    with pytest.raises(InputError, match=r"'a:0' are negative.*by_rank"):
        plan_by_budget({"a:0": np.array([-1.0, 2.0])}, coupling, unit_savings({}), 1.0)
