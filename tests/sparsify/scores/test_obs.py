"""Optimal Brain Surgeon against least squares solved by torch, and against removing things by brute force."""

import itertools

import pytest
import torch
from torch import nn

from laconic.errors import InputError
from laconic.networks import gather_second_moments
from laconic.records import KeepPlan
from laconic.sparsify.scores import (
    compensated,
    obs_groups,
    obs_pruned,
    obs_weights,
    surgeon,
    sweep,
)
from laconic.sparsify.scores.obs import compensate, saliencies, unit_costs
from laconic.structure import find_groups, mask, shrink
from tests.helpers.networks import seeded


def problem(rows=3, columns=6, samples=40):
    g = torch.Generator().manual_seed(8)
    x = torch.randn(samples, columns, generator=g, dtype=torch.float64)
    x = x + 0.7 * x.roll(1, 1)  # inputs that are correlated: else nothing can make up for anything
    return torch.randn(rows, columns, generator=g, dtype=torch.float64), x


def least_squares(w, x, keep):
    """Row by row, the best weights on the inputs kept, and half the squared error."""
    best = torch.zeros_like(w)
    for row, stay in zip(range(len(w)), keep, strict=True):
        if stay.any():
            best[row, stay] = torch.linalg.lstsq(x[:, stay], (x @ w[row])[:, None]).solution[:, 0]
    return best, 0.5 * float((x @ (w - best).T).square().sum())


def test_compensation_is_the_least_squares_solution():
    w, x = problem()
    keep = torch.rand(w.shape, generator=torch.Generator().manual_seed(1)) > 0.4
    keep[1] = keep[0]  # rows that share a pattern
    keep[2] = False
    got = compensate(w, x.T @ x, keep, damping=0.0)
    assert torch.allclose(got, least_squares(w, x, keep)[0], atol=1e-10)
    assert not got[~keep].any()


def test_saliency_is_the_error_of_each_weights_best_absence():
    w, x = problem()
    got = saliencies(w, x.T @ x, damping=0.0)
    for i, j in itertools.product(range(3), range(6)):
        keep = torch.ones_like(w, dtype=torch.bool)
        keep[i, j] = False
        assert got[i, j].item() == pytest.approx(least_squares(w, x, keep)[1])


def test_unit_costs_are_the_errors_of_each_units_best_absence():
    w, x = problem()
    units = torch.tensor([0, 1, 1, 2, -1, 0])
    got = unit_costs(w, x.T @ x, units, 4, damping=0.0)
    for unit in range(3):
        keep = (units != unit).expand(3, 6)
        assert got[unit].item() == pytest.approx(least_squares(w, x, keep)[1])
    assert got[3] == 0


def test_a_sweep_is_a_least_squares_fit_of_later_columns_after_each_removal():
    w, x = problem(rows=4, columns=9)
    for block in (2, 5, 128):
        new, keep = sweep(w, x.T @ x, 0.4, damping=0.0, block=block)
        naive = w.clone()
        for row, j in itertools.product(range(4), range(9)):
            if not keep[row, j]:
                naive[row, j] = 0
                rest = x @ w[row] - x[:, : j + 1] @ naive[row, : j + 1]
                if j < 8:
                    naive[row, j + 1 :] = torch.linalg.lstsq(x[:, j + 1 :], rest[:, None]).solution[:, 0]
        assert torch.allclose(new, naive, atol=1e-9)


def test_a_sweep_drops_what_costs_least_given_only_later_columns():
    w, x = problem(rows=4, columns=7)
    _, keep = sweep(w, x.T @ x, 0.5, damping=0.0)
    costs = torch.stack(
        [(saliencies(w[:, j:], x[:, j:].T @ x[:, j:], damping=0.0))[:, 0] for j in range(7)], 1
    )
    assert int((~keep).sum()) == 14
    assert costs[~keep].max() < costs[keep].min()


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("method", [surgeon, sweep, lambda *a, **k: sweep(*a, **k, block=5)])
def test_counts_are_exact_and_making_up_pays(sparsity, method):
    w, x = problem(rows=8, columns=24, samples=100)
    new, keep = method(w, x.T @ x, sparsity, damping=1e-9)
    assert int((~keep).sum()) == int(sparsity * 8 * 24)
    assert not new[~keep].any()
    error, without = (float((x @ (w - v).T).square().sum()) for v in (new, torch.where(keep, w, 0.0)))
    best = 2 * least_squares(w, x, keep)[1]
    assert best * (1 - 1e-6) <= error + 1e-18
    if method is surgeon or sparsity <= 0.5:  # a sweep may raise weights that it drops later
        assert error < 0.9 * without if sparsity else error < 1e-15
    if method is surgeon:
        plain = w.clone()
        plain.ravel()[w.abs().ravel().argsort()[: int(sparsity * 8 * 24)]] = 0
        refitted = 2 * least_squares(w, x, plain != 0)[1]
        assert error <= best * (1 + 1e-6) + 1e-15
        assert error < refitted or not sparsity  # even against magnitude with the same making up


def test_the_surgeon_takes_each_rows_cheapest_weight_again_and_again():
    w, x = problem(rows=1, columns=6)
    _, keep = surgeon(w, x.T @ x, 4 / 6, damping=0.0)
    naive = torch.ones(1, 6, dtype=torch.bool)
    for _ in range(4):
        trials = []
        for j in naive[0].nonzero().ravel().tolist():
            trial = naive.clone()
            trial[0, j] = False
            trials.append((least_squares(w, x, trial)[1], j))
        naive[0, min(trials)[1]] = False
    assert torch.equal(keep, naive)


def test_a_removal_waits_for_the_one_before_it_in_its_row():
    """Row 0 says x0 + x1 = 0.3 e, at right angles to x1: once weight 0 is removed, weight 1 costs nothing.

    But the first single removal to take is row 1's: it costs less than either of row 0's by itself.
    """
    e0, e1 = torch.eye(2, dtype=torch.float64)
    x = torch.stack([-e0 + 0.3 * e1, e0], 1)
    w = torch.tensor([[1.0, 1.0], [0.5, 2.0]], dtype=torch.float64)
    each = {}
    for i, j in itertools.product(range(2), range(2)):
        trial = torch.ones(2, 2, dtype=torch.bool)
        trial[i, j] = False
        each[i, j] = least_squares(w, x, trial)[1]
    _, keep = surgeon(w, x.T @ x, 0.25, damping=0.0)
    assert min(each, key=each.__getitem__) == (1, 0) and not keep[1, 0] and int(keep.sum()) == 3


def test_an_input_that_is_never_there():
    w, x = problem()
    x[:, 2] = 0
    new, keep = sweep(w, x.T @ x, 0.5, damping=0.0)
    assert torch.isfinite(new).all() and not new[:, 2].any() and int((~keep).sum()) == 9
    assert torch.isfinite(saliencies(w, x.T @ x, damping=0.0)).all()


# --- whole networks ------------------------------------------------------------------------------------


def two_layers():
    net = seeded(lambda: nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3, bias=False))).double()
    x = torch.randn(60, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return net, x, find_groups(net, x[:2])


def test_hessians_are_sums_over_batches_and_can_be_gone_on_with():
    net, x, _ = two_layers()
    whole = gather_second_moments(net, [x])
    parts = gather_second_moments(net, [x[40:]], start=gather_second_moments(net, [x[:10], x[10:40]]))
    hidden = net[1](net[0](x)).detach()
    assert torch.allclose(whole["2.weight"].products[0], hidden.T @ hidden)
    assert torch.allclose(whole["2.weight"].mean[0], hidden.T @ hidden / 60)
    assert all(torch.allclose(whole[n].products, parts[n].products) for n in whole)
    assert set(gather_second_moments(net, [x], names=["0.weight"])) == {"0.weight"}


def test_group_scores_are_the_errors_of_the_shrunk_and_compensated_network():
    """The last layer's error when a hidden unit goes and the others make up: scored, and done."""
    net, x, coupling = two_layers()
    hessians = gather_second_moments(net, [x])
    scores = obs_groups(net, coupling, hessians, damping=1e-9)["0.weight:0"]
    with torch.no_grad():
        for unit in range(8):
            plan = KeepPlan({"0.weight:0": tuple(k for k in range(8) if k != unit)}, {"0.weight:0": 8})
            made_up = compensated(net, coupling, plan, hessians, damping=1e-9)
            small = shrink(made_up, coupling, plan)
            error = 0.5 * (small(x) - net(x)).square().sum(1).mean().item()
            assert scores[unit] == pytest.approx(error, rel=1e-4)
            assert error <= 0.5 * (mask(net, coupling, plan)(x) - net(x)).square().sum(1).mean().item()


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Conv2d(4, 6, 3, groups=2, padding=1, bias=False),
        lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2, bias=False),
    ],
)
def test_convolutions_by_brute_force(build):
    """Scores of single weights are half the mean error of the convolution, its other weights adjusted."""
    layer = seeded(build).double()
    x = torch.randn(3, 4, 7, 7, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    hessians = gather_second_moments(layer, [x])
    scores = obs_weights(layer, hessians, damping=1e-9)["weight"]
    flat = layer.weight.detach().ravel()
    basis = torch.eye(len(flat), dtype=torch.float64)
    with torch.no_grad():  # the layer is linear in its weights: column k is its output with weight k alone
        columns = [torch.func.functional_call(layer, {"weight": e.view_as(layer.weight)}, x) for e in basis]
    design = torch.stack([c.ravel() for c in columns], 1)
    positions = columns[0][:, 0].numel()
    for k in (0, 17, len(flat) - 1):
        keep = torch.ones(1, len(flat), dtype=torch.bool)
        keep[0, k] = False
        error = least_squares(flat[None], design, keep)[1] / positions
        assert scores.ravel()[k].item() == pytest.approx(error, rel=1e-5)


def test_pruning_whole_layers():
    net, x, _ = two_layers()
    pruned, masks = obs_pruned(net, gather_second_moments(net, [x], names=["2.weight"]), 0.5)
    assert set(masks) == {"2.weight"} and masks["2.weight"].shape == (3, 8)
    assert int((~masks["2.weight"]).sum()) == 12
    hidden = net[1](net[0](x)).detach()
    new, keep = sweep(net[2].weight, hidden.T @ hidden / 60, 0.5)
    assert torch.equal(keep, masks["2.weight"]) and torch.allclose(pruned[2].weight, new)
    assert torch.equal(pruned[0].weight, net[0].weight)
    finest, _ = obs_pruned(net, gather_second_moments(net, [x], names=["2.weight"]), 0.5, method=surgeon)
    with torch.no_grad():
        assert (finest(x) - net(x)).square().sum() < (pruned(x) - net(x)).square().sum()


def test_bad_input():
    w, x = problem(samples=3)  # fewer samples than inputs: singular without damping
    with pytest.raises(InputError, match=r"not positive definite with damping 0\.0.*Cure: more data"):
        saliencies(w, x.T @ x, damping=0.0)
    with pytest.raises(InputError, match="damping must not be negative"):
        saliencies(w, x.T @ x, damping=-1.0)
    with pytest.raises(InputError, match="sparsity"):
        sweep(w, x.T @ x, 1.0)
