"""Each score on every way of coupling: finite, one number a unit, and the network left as it was."""

import numpy as np
import pytest
import torch

from laconic.errors import DataError, InputError, NonFiniteError
from laconic.networks import gather_second_moments
from laconic.records import WeightStats
from laconic.sparsify.scores import (
    apoz_groups,
    compensated,
    drawn_noise,
    empirical_fisher,
    gather_inputs,
    gauss_newton,
    l1_groups,
    l2_groups,
    magnitude_weights,
    mean_activation_groups,
    obd_groups,
    obs_groups,
    obs_weights,
    random_groups,
    random_weights,
    snr_groups,
    taylor_groups,
    taylor_weights,
    wanda_groups,
    wanda_weights,
)
from laconic.sparsify.selection.share import plan_by_ratio
from laconic.structure import find_groups, mask
from tests.helpers.coupled_networks import CASES
from tests.helpers.networks import seeded


def squared(net, x):
    return net(x).square().mean()


def posterior(net):
    return [
        WeightStats(n, p.detach().numpy(), np.full(p.shape, 0.01, np.float32))
        for n, p in net.named_parameters()
    ]


def all_group_scores(net, coupling, x):
    stats, generator = gather_inputs(net, [x]), torch.Generator().manual_seed(0)
    curvature = gauss_newton(net, [x], generator, sample=drawn_noise)
    fisher = empirical_fisher(net, [x], lambda m, b: m(b).flatten(1).square().sum(1))
    return {
        "l1": l1_groups(net, coupling),
        "l2": l2_groups(net, coupling),
        "taylor": taylor_groups(net, coupling, [x], squared),
        "obd, gauss-newton": obd_groups(net, coupling, curvature),
        "obd, fisher": obd_groups(net, coupling, fisher),
        "obs": obs_groups(net, coupling, gather_second_moments(net, [x])),
        "apoz": apoz_groups(coupling, stats),
        "mean activation": mean_activation_groups(coupling, stats),
        "wanda": wanda_groups(net, coupling, stats),
        "snr": snr_groups(net, coupling, posterior(net)),
        "random": random_groups(coupling, np.random.default_rng(0)),
    }


@pytest.fixture(scope="module", params=CASES, ids=lambda name: name.replace(" ", "-"))
def case(request):
    build, example, _ = CASES[request.param]
    net = seeded(build)
    return net, example, find_groups(net, example)


def test_every_group_gets_finite_numbers(case):
    net, x, coupling = case
    for name, scores in all_group_scores(net, coupling, x).items():
        assert list(scores) == [g.name for g in coupling.groups], name
        for group in coupling.groups:
            values = scores[group.name]
            assert values.dtype == np.float64 and values.shape == (group.size,), name
            assert np.isfinite(values).all(), name
            assert name == "snr" or (values >= 0).all(), name
            if name != "apoz":  # dead units all score 0, and two may be equally often zero
                assert len(set(values[values != 0])) == (values != 0).sum() > 0, (name, group.name)


def test_scores_of_weights_have_their_shapes(case):
    net, x, _ = case
    shapes = {n: p.shape for n, p in net.named_parameters()}
    everywhere = (magnitude_weights(net), taylor_weights(net, [x], squared))
    for scores in (*everywhere, random_weights(net, torch.Generator().manual_seed(0))):
        assert {n: s.shape for n, s in scores.items()} == shapes
    read = (wanda_weights(net, gather_inputs(net, [x])), obs_weights(net, gather_second_moments(net, [x])))
    matrices = {n for n, s in shapes.items() if len(s) > 1 and not n.startswith(("embed", "places"))}
    for scores in read:
        assert set(scores) == matrices
        assert all(s.shape == shapes[n] for n, s in scores.items())


def test_the_network_is_left_as_it_was(case):
    net, x, coupling = case
    before = {k: v.clone() for k, v in net.state_dict().items()}
    for k, (p, part) in enumerate(zip(net.parameters(), net.modules(), strict=False)):
        p.requires_grad_(k % 2 == 0)
        part.training = k % 3 == 0
    flags = [p.requires_grad for p in net.parameters()], [m.training for m in net.modules()]
    all_group_scores(net, coupling, x)
    assert flags == ([p.requires_grad for p in net.parameters()], [m.training for m in net.modules()])
    assert all(p.grad is None for p in net.parameters())
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    for p in net.parameters():
        p.requires_grad_(True)
    net.eval()


def test_making_up_for_what_goes_helps_every_layer_on_average(case):
    """One group at a time, half of it: the readers' compensated weights give a smaller error, never a larger.

    Of one reader this is a theorem (its inputs stay as they were); of several in a row, or through a
    recurrence, it is not: so the test is of the sum over the groups of all that read once.
    """
    net, x, coupling = case
    hessians = gather_second_moments(net, [x])
    plain = better = 0.0
    for group in coupling.groups:
        seen = [m for m in group.members if m.tensor in hessians and hessians[m.tensor].axis == m.axis]
        if len(seen) != 1 or any(group.name in names for names in coupling.tied):
            continue
        plan = plan_by_ratio({group.name: np.arange(group.size, dtype=float)}, coupling, 0.5)
        made_up = compensated(net, coupling, plan, hessians, damping=1e-6)
        name = seen[0].tensor
        for k, net_k in enumerate((mask(net, coupling, plan), mask(made_up, coupling, plan))):
            w0, w1 = dict(net.named_parameters())[name], dict(net_k.named_parameters())[name]
            error = layer_error(w0 - w1, hessians[name])
            plain, better = (plain + error, better) if k == 0 else (plain, better + error)
    assert better < plain or plain == 0


def layer_error(difference, hessian):
    from laconic.networks.second_moments import as_matrices

    d = as_matrices(difference.detach().double(), hessian.axis, len(hessian.products))
    return float(torch.einsum("brk,bkl,brl->", d, hessian.products, d))


# --- bad input -----------------------------------------------------------------------------------------


def test_an_empty_loader_is_one_clear_error():
    build, x, _ = CASES["computed sizes"]
    net = seeded(build)
    coupling = find_groups(net, x)
    calls = (
        lambda: gather_inputs(net, []),
        lambda: gather_second_moments(net, []),
        lambda: taylor_weights(net, [], squared),
        lambda: taylor_groups(net, coupling, iter([]), squared),
        lambda: empirical_fisher(net, [], lambda m, b: m(b).sum(1)),
        lambda: gauss_newton(net, [], torch.Generator()),
    )
    for call in calls:
        with pytest.raises(DataError, match=r"the loader gave no batch.*Cure"):
            call()


def test_a_nan_is_named():
    build, x, _ = CASES["computed sizes"]
    net = seeded(build)
    coupling = find_groups(net, x)
    with pytest.raises(NonFiniteError, match=r"activation: .*'conv\.weight:0'|'fc1\.weight:0'"):
        mean_activation_groups(coupling, gather_inputs(net, [x * float("nan")]))
    with pytest.raises(NonFiniteError, match=r"Taylor: \d+ of 6 scores of 'conv\.weight:0'.*Cure"):
        taylor_groups(net, coupling, [x * float("nan")], squared)
    with pytest.raises(NonFiniteError, match=r"the input of 'conv\.weight' holds NaN.*Cure"):
        obs_groups(net, coupling, gather_second_moments(net, [x * float("nan")]))
    with torch.no_grad():
        net.fc1.weight[0, 0] = float("nan")
    for call in (l1_groups, l2_groups):
        with pytest.raises(NonFiniteError, match=r"magnitude: 1 of 2160 scores of 'fc1\.weight'"):
            call(net, coupling)
    with pytest.raises(NonFiniteError, match=r"signal to noise: 1 of 2160 scores of 'fc1\.weight'"):
        snr_groups(net, coupling, posterior(net))


def test_statistics_that_are_missing_or_of_another_network():
    build, x, _ = CASES["computed sizes"]
    net = seeded(build)
    coupling = find_groups(net, x)
    with pytest.raises(InputError, match=r"group 'conv\.weight:0': no weight was seen to read it"):
        apoz_groups(coupling, {})
    with pytest.raises(InputError, match=r"group 'conv\.weight:0': no Hessian"):
        obs_groups(net, coupling, gather_second_moments(net, [x], names=["conv.weight"]))
    with pytest.raises(
        InputError, match=r"group 'conv\.weight:0': no score was given for any of conv\.weight"
    ):
        snr_groups(net, coupling, [])
    other = seeded(CASES["flat pixels"][0])
    stats, hessians = (f(net, [x]) for f in (gather_inputs, gather_second_moments))
    with pytest.raises(InputError, match=r"'conv\.weight' fit no weight"):
        wanda_weights(other, stats)
    with pytest.raises(InputError, match=r"Hessian of 'conv\.weight' is of 1 x 9 inputs, .* no weight"):
        obs_weights(other, hessians)
