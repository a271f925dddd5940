"""Curvatures against loops, closed forms and enumeration; Optimal Brain Damage against losses themselves.

Seeds are fixed, so what is drawn is the same every time; a tolerance on draws is at least five standard
errors of the estimate.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from laconic.errors import InputError
from laconic.records import KeepPlan
from laconic.sparsify.scores import drawn_noise, empirical_fisher, gauss_newton, obd_groups, obd_weights
from laconic.structure import find_groups, mask
from laconic.structure.coupling.groups import without_inputs
from tests.helpers.networks import seeded


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def small():
    net = seeded(lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))).double()
    x = torch.randn(12, 4, generator=gen(3), dtype=torch.float64)
    return net, x, torch.randint(0, 3, (12,), generator=gen(4))


def entropies(net, batch):
    return F.cross_entropy(net(batch[0]), batch[1], reduction="none")


def test_the_empirical_fisher_is_a_mean_over_single_examples():
    net, x, y = small()
    got = empirical_fisher(net, [(x[:5], y[:5]), (x[5:], y[5:])], entropies)
    expected = {n: torch.zeros_like(p) for n, p in net.named_parameters()}
    for k in range(12):
        net.zero_grad()
        F.cross_entropy(net(x[k : k + 1]), y[k : k + 1]).backward()
        for n, p in net.named_parameters():
            expected[n] += p.grad**2 / 12
    assert all(torch.allclose(got[n], e) for n, e in expected.items())


def test_logistic_regression_by_hand():
    """h_j = mean (sigmoid(w x) - y)^2 x_j^2."""
    layer = nn.Linear(2, 1, bias=False).double()
    x = torch.tensor([[1.0, 2.0], [-1.0, 0.5]], dtype=torch.float64)
    y = torch.tensor([1.0, 0.0], dtype=torch.float64)
    got = empirical_fisher(
        layer,
        [(x, y)],
        lambda net, b: F.binary_cross_entropy_with_logits(net(b[0])[:, 0], b[1], reduction="none"),
    )
    residual = (x @ layer.weight[0]).sigmoid() - y
    assert torch.allclose(got["weight"][0], (residual[:, None] * x).square().mean(0))


def test_signs_are_an_unbiased_estimate():
    net, x, y = small()
    exact = empirical_fisher(net, [(x, y)], entropies)
    drawn = empirical_fisher(net, [(x, y)], entropies, signs=gen(1), draws=800)
    for n, e in exact.items():  # the estimate's standard deviation is below sqrt(2) of its mean
        assert float((drawn[n] - e).abs().max() / e.max()) < 5 * (2 / 800) ** 0.5


def test_gauss_newton_is_the_expectation_over_all_labels():
    net, x, _ = small()
    exact = {n: torch.zeros_like(p) for n, p in net.named_parameters()}
    for k in range(12):
        probabilities = net(x[k : k + 1]).softmax(1)[0].tolist()
        for label, probability in enumerate(probabilities):
            net.zero_grad()
            F.cross_entropy(net(x[k : k + 1]), torch.tensor([label])).backward()
            for n, p in net.named_parameters():
                exact[n] += probability * p.grad**2 / 12
    drawn = gauss_newton(net, [x[:7], (x[7:], None)], gen(1), draws=800)
    for n, e in exact.items():
        assert float((drawn[n] - e).abs().max() / e.max()) < 5 * (2 / 800) ** 0.5


def test_gauss_newton_of_pixels_draws_a_label_for_each():
    net = nn.Conv2d(1, 3, 1, bias=False).double()
    x = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    p = net(x)[0, :, 0, 0].softmax(0)
    drawn = gauss_newton(net, [x], gen(2), draws=1000)["weight"].ravel()
    assert torch.allclose(drawn, 4 * p * (1 - p), rtol=5 * (2 / 1000) ** 0.5)  # four pixels, each p (1 - p)


def test_damage_is_the_true_change_of_a_squared_error_at_its_minimum():
    """1/2 ||y - W x||^2 is quadratic: with the exact curvature 1/2 h w^2 is what one weight's going costs."""
    layer = nn.Linear(4, 2, bias=False).double()
    x = torch.randn(50, 4, generator=gen(5), dtype=torch.float64)
    y = layer(x).detach()
    curvature = {"weight": x.square().mean(0).expand(2, 4)}
    scores = obd_weights(layer, curvature)["weight"]
    for i in range(2):
        for j in range(4):
            w = layer.weight.detach().clone()
            w[i, j] = 0
            assert scores[i, j].item() == pytest.approx(0.5 * (y - x @ w.T).square().sum(1).mean().item())
    drawn = gauss_newton(layer, [x], gen(6), sample=drawn_noise, draws=2000)["weight"]
    assert torch.allclose(drawn, curvature["weight"], rtol=5 * (2 / 2000) ** 0.5)


def test_damage_ranks_units_as_the_true_loss_does_where_weights_are_small():
    """Readers of orthogonal inputs: cross terms vanish, a unit costs the sum over its weights."""
    net = seeded(lambda: nn.Sequential(nn.Linear(6, 6, bias=False), nn.Linear(6, 3, bias=False))).double()
    x = torch.linalg.qr(torch.randn(40, 6, generator=gen(7), dtype=torch.float64))[0]
    with torch.no_grad():
        net[0].weight.copy_(torch.diag(torch.arange(1.0, 7.0)))
    y = net(x).detach()
    coupling = without_inputs(find_groups(net, x[:2]))
    h = {"1.weight": net[0](x).square().mean(0).expand(3, 6)}
    scores = obd_groups(net, coupling, h)["0.weight:0"]
    for unit in range(6):
        plan = KeepPlan({"0.weight:0": tuple(k for k in range(6) if k != unit)}, {"0.weight:0": 6})
        true = 0.5 * (y - mask(net, coupling, plan)(x)).square().sum(1).mean().item()
        assert scores[unit] == pytest.approx(true)


def test_bad_losses_and_curvatures():
    net, x, y = small()
    with pytest.raises(InputError, match=r"shape \(N,\), got \(\).*reduction='none'"):
        empirical_fisher(net, [(x, y)], lambda m, b: F.cross_entropy(m(b[0]), b[1]))
    with pytest.raises(InputError, match=r"curvature 'nothing' of shape \(2,\)"):
        obd_weights(net, {"nothing": torch.ones(2)})
