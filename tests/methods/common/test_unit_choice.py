"""Which units stay: every judge here knows which units are needed, so that the answer is known."""

import torch
from torch import nn

from laconic.methods import Judge, Score, Target
from laconic.methods.common.unit_choice import UnitChoice, choose_units
from laconic.structure import find_groups

FIRST, SECOND = "0.weight:0", "2.weight:0"


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))


def setting():
    """Scores by which units 5, 4, .. of the first group and 0, 1, .. of the second go first."""
    net = network()
    return (
        net,
        find_groups(net, torch.zeros(2, 3)),
        {
            FIRST: torch.arange(6.0, 0.0, -1.0),
            SECOND: torch.arange(8.0) + 0.5,
        },
    )


def needing(net, first, second, target=Target(), original=None):  # noqa: B008 - frozen
    """A judge that counts the needed units that are gone: one point of error each."""

    def evaluate(module):
        gone = [int(module[0].bias[u] == 0) for u in first] + [int(module[2].bias[u] == 0) for u in second]
        return Score(float(sum(gone)), 1.0, 100)

    return Judge(evaluate, original, target)


def test_one_threshold_is_the_strongest_that_is_allowed():
    net, coupling, scores = setting()
    thresholds = (0.0, 2.1, 3.1, 4.1, 5.1)
    plan = choose_units(
        net, coupling, scores, UnitChoice(thresholds, per_group=False), needing(net, (0, 1, 2), (4, 5, 6, 7))
    )
    # units 0, 1, 2 score 6, 5 and 4; 4.1 would take unit 2
    assert plan.kept[FIRST] == (0, 1, 2) and plan.kept[SECOND] == (3, 4, 5, 6, 7)


def test_then_each_group_loses_what_it_does_not_need():
    net, coupling, scores = setting()
    plan = choose_units(net, coupling, scores, UnitChoice(), needing(net, (0,), (4, 5, 6, 7)))
    assert plan.kept[FIRST] == (0,) and plan.kept[SECOND] == (4, 5, 6, 7)


def test_nothing_goes_where_nothing_may():
    net, coupling, scores = setting()
    plan = choose_units(net, coupling, scores, UnitChoice(), needing(net, range(6), range(8)))
    assert plan.kept[FIRST] == tuple(range(6)) and plan.kept[SECOND] == tuple(range(8))


def test_a_group_keeps_its_best_unit():
    net, coupling, scores = setting()
    plan = choose_units(net, coupling, scores, UnitChoice(), needing(net, (), ()))
    assert plan.kept == {FIRST: (0,), SECOND: (7,)}


def test_units_take_half_of_a_target():
    net, coupling, scores = setting()
    target = Target(max_drop=4.0)
    judge = needing(net, (), range(8), target, Score(0.0, 1.0, 100))
    plan = choose_units(net, coupling, scores, UnitChoice(max_nll_ratio=9.0), judge)
    assert plan.kept == {FIRST: (0,), SECOND: (2, 3, 4, 5, 6, 7)}


def test_the_network_is_left_as_it_was():
    net, coupling, scores = setting()
    before = {n: p.clone() for n, p in net.state_dict().items()}
    choose_units(net, coupling, scores, UnitChoice(), needing(net, (0,), (7,)))
    assert all(torch.equal(p, before[n]) for n, p in net.state_dict().items())
