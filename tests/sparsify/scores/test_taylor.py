"""First-order scores against differences of the loss itself."""

import numpy as np
import pytest
import torch
from torch import nn

from laconic.errors import InputError
from laconic.records import KeepPlan
from laconic.sparsify.scores import everything, taylor_groups, taylor_weights
from laconic.structure import find_groups, mask
from tests.helpers.coupled_networks import CASES
from tests.helpers.networks import seeded


def squared(net, x):
    return net(x).square().mean()


@pytest.mark.parametrize("name", CASES)
def test_over_all_members_it_is_the_slope_towards_the_mask(name):
    """D loss / d t where the parameters are w + t (masked - w), by central differences in float64."""
    build, x, _ = CASES[name]
    net = seeded(build).double()
    x = x.double() if x.is_floating_point() else x
    coupling = find_groups(net, x)
    scores = taylor_groups(net, coupling, [x], squared, members=everything)
    for group in coupling.groups:
        if any(group.name in names for names in coupling.tied):
            continue
        unit = group.size - 1
        plan = KeepPlan({group.name: tuple(range(unit))}, {group.name: group.size})
        ends = dict(mask(net, coupling, plan).named_parameters())
        losses = []
        for t in (1e-4, -1e-4):
            moved = mask(net, coupling, KeepPlan({}, {}))
            with torch.no_grad():
                for n, p in moved.named_parameters():
                    p += t * (ends[n] - p)
                losses.append(squared(moved, x).item())
        slope = (losses[0] - losses[1]) / 2e-4
        assert scores[group.name][unit] == pytest.approx(slope**2, rel=1e-3, abs=1e-14)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Sigmoid])
def test_by_default_it_is_the_change_of_the_loss_when_a_small_unit_goes(activation):
    """Also where sigmoid(0) is not 0: what counts are the weights that read the unit."""
    net = seeded(lambda: nn.Sequential(nn.Linear(5, 6), activation(), nn.Linear(6, 3))).double()
    x = torch.randn(40, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        net[2].weight *= 1e-4
    coupling = find_groups(net, x[:2])
    scores = taylor_groups(net, coupling, [x], squared)["0.weight:0"]
    with torch.no_grad():
        before = squared(net, x)
        for unit in range(6):
            plan = KeepPlan({"0.weight:0": tuple(k for k in range(6) if k != unit)}, {"0.weight:0": 6})
            change = float(squared(mask(net, coupling, plan), x) - before)
            assert scores[unit] == pytest.approx(change**2, rel=5e-3)


def test_of_a_weight_it_is_the_change_of_a_loss_that_is_linear_in_it():
    layer = nn.Linear(3, 2).double()
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    pull = torch.randn(7, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    scores = taylor_weights(layer, [x], lambda net, b: (net(b) * pull).sum())["weight"]
    for i in range(2):
        for j in range(3):
            change = layer.weight[i, j] * (x[:, j] * pull[:, i]).sum()
            assert scores[i, j].item() == pytest.approx(abs(change.item()))


def test_batches_are_averaged_after_squaring():
    layer = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(2.0)
    both = [torch.tensor([[1.0]]), torch.tensor([[-3.0]])]
    scores = taylor_weights(layer, both, lambda net, x: net(x).sum())
    assert scores["weight"].item() == 2 * (1 + 3) / 2
    two = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        two[0].weight.copy_(torch.tensor([[1.0], [2.0]]))
        two[1].weight.copy_(torch.tensor([[5.0, 1.0]]))
    coupling = find_groups(two, torch.ones(2, 1))
    got = taylor_groups(two, coupling, both, lambda net, x: net(x).sum())["0.weight:0"]
    assert np.allclose(got, [(25 + 225) / 2, (4 + 36) / 2])


def test_frozen_and_unused_weights_have_scores_too():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(2, 1), nn.Linear(2, 1)

        def forward(self, x):
            return self.used(x)

    net = Half().requires_grad_(False)
    scores = taylor_weights(net, [torch.ones(3, 2)], squared)
    assert not scores["idle.weight"].any() and scores["used.weight"].all()


def test_a_loss_that_is_not_a_number():
    with pytest.raises(InputError, match=r"Taylor: the loss has shape \(3, 1\).*Cure: take its mean"):
        taylor_weights(nn.Linear(2, 1), [torch.ones(3, 2)], lambda net, x: net(x))
