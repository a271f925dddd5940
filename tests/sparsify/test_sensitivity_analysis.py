"""Sensitivity by brute force: every group, or tied set, masked by hand."""

import numpy as np
import pytest
import torch

from laconic.errors import InputError, NonFiniteError
from laconic.sparsify.scores import l2_groups
from laconic.sparsify.selection.budget import weights_saved
from laconic.sparsify.selection.share import plan_by_ratio
from laconic.sparsify.sensitivity_analysis import Sensitivity, sensitivity
from laconic.structure import find_groups
from laconic.structure.coupling.groups import tied_sets
from laconic.structure.shrinking import kept_positions
from tests.helpers.coupled_networks import CASES
from tests.helpers.networks import seeded


@pytest.fixture(scope="module", params=["residual", "gru", "computed sizes"])
def measured(request):
    build, x, _ = CASES[request.param]
    net = seeded(build)
    coupling = find_groups(net, x)
    with torch.no_grad():
        target = net(x)

    def error(network):
        with torch.no_grad():
            return float((network(x) - target).square().mean())

    scores = l2_groups(net, coupling)
    return net, coupling, scores, error, sensitivity(net, coupling, error, (0.25, 0.5, 0.75), scores)


def test_every_number_by_brute_force(measured):
    net, coupling, scores, error, table = measured
    assert table.groups == tied_sets(coupling) and table.baseline == error(net) == 0
    for names, row in zip(table.groups, table.metrics, strict=True):
        for ratio, metric in zip(table.ratios, row, strict=True):
            plan = plan_by_ratio({n: scores[n] for n in names}, coupling, ratio)
            for name in names:
                removed = int(ratio * coupling.group(name).size)
                assert set(plan.removed(name)) == set(
                    np.argsort(scores[name], kind="stable")[:removed].tolist()
                )
            before = {k: v.clone() for k, v in net.state_dict().items()}
            with torch.no_grad():
                for (tensor, axis), stay in kept_positions(coupling, plan).items():
                    if tensor in before:
                        net.state_dict()[tensor].index_fill_(axis, torch.as_tensor(np.flatnonzero(~stay)), 0)
            assert metric == pytest.approx(error(net))
            net.load_state_dict(before)


def test_within_a_tolerance_and_no_further(measured):
    *_, table = measured
    for tolerance in (-1.0, 0.0, *(r for row in table.rises() for r in row)):
        shares = table.within(tolerance)
        for names, row in zip(table.groups, table.rises(), strict=True):
            fine = [all(r <= tolerance for r in row[: k + 1]) for k in range(3)]
            assert {shares[n] for n in names} == {(0.0, *table.ratios)[sum(fine)]}


def test_shares_for_a_budget_are_the_gentlest_that_reach_it(measured):
    net, coupling, scores, _, table = measured
    saved = weights_saved(net, coupling)

    def saving(shares):
        return saved(plan_by_ratio(scores, coupling, shares))

    most = saving(table.within(np.inf))
    for target in (0.0, 0.2 * most, 0.7 * most, most):
        shares = table.ratios_for(saving, target)
        assert saving(shares) >= target
        harm = [dict(zip((0.0, *table.ratios), (0.0, *row), strict=True))[shares[names[0]]]
                for names, row in zip(table.groups, table.rises(), strict=True)]  # fmt: skip
        if max(harm) > 0:
            assert saving(table.within(np.nextafter(max(harm), 0))) < target
    with pytest.raises(InputError, match=r"largest shares measured save .* less than.*Cure"):
        table.ratios_for(saving, most + 1)


def test_the_table_can_be_read():
    table = Sensitivity(
        (("conv.weight:0",), ("a:0", "b:0")), (0.25, 0.5), 0.01, ((0.02, 0.5), (0.011, 0.0123))
    )
    assert str(table).splitlines() == [
        "whole network 0.01",
        "group               -25%       -50%",
        "conv.weight:0       0.02        0.5",
        "a:0 + b:0          0.011     0.0123",
    ]


def test_bad_input(measured):
    net, coupling, scores, error, _ = measured
    for ratios in ((), (0.5, 0.5), (0.0, 0.5), (0.5, 1.0)):
        with pytest.raises(InputError, match="ratios must rise within"):
            sensitivity(net, coupling, error, ratios, scores)
    name = coupling.groups[0].name
    with pytest.raises(NonFiniteError, match=f"sensitivity of group '{name}.*the metric is NaN"):
        sensitivity(net, coupling, lambda _: float("nan"), (0.5,), scores)
