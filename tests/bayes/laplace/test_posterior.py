"""Variances from curvature and prior, and the decisions that take them."""

import numpy as np
import pytest
import torch
from torch import nn

from laconic.bayes.laplace import FisherSettings, gather_curvature, laplace_posterior
from laconic.errors import DataError, InputError, ScaleError
from laconic.quantize.rate_distortion import RateDistortion, quantize
from laconic.sparsify.scores import snr_weights
from laconic.tasks import Classification
from tests.helpers.networks import seeded


def small_net():
    return seeded(lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3)))


def seen(net, inputs=None, **options):
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(2)) if inputs is None else inputs
    draw = torch.Generator().manual_seed(0)
    return gather_curvature(net, [x], Classification(), generator=draw, labelled=False, **options)


@pytest.mark.parametrize("structure", ["kronecker", "diagonal"])
def test_variances_are_inverse_precisions(structure):
    net = small_net()
    curvature = seen(net)
    found = laplace_posterior(net, curvature, data_size=500, structure=structure, prior=3.0)
    for name, p in net.named_parameters():
        stats, tensor = found.stats[name], curvature.tensors[name]
        h = tensor.smooth if structure == "kronecker" else tensor.diagonal
        assert np.array_equal(stats.mean, p.detach().numpy())
        assert np.allclose(stats.variance, 1 / (500 * h.numpy() + 3.0), rtol=1e-5)
        assert stats.mean.dtype == stats.variance.dtype == np.float32
        assert found.determined[name] == pytest.approx(float((500 * h / (500 * h + 3)).sum()), rel=1e-5)
    assert set(found.prior_precisions.values()) == {3.0}


def test_the_prior_by_marginal_likelihood():
    net = small_net()
    curvature = seen(net)
    by_tensor = laplace_posterior(net, curvature, data_size=1000)
    together = laplace_posterior(net, curvature, data_size=1000, prior="global")
    for name, p in net.named_parameters():
        alpha = by_tensor.prior_precisions[name]
        assert alpha * p.detach().square().sum().item() == pytest.approx(by_tensor.determined[name], rel=1e-5)
    (alpha,) = set(together.prior_precisions.values())
    total = sum(p.detach().square().sum().item() for p in net.parameters())
    assert alpha * total == pytest.approx(sum(together.determined.values()), rel=1e-5)
    for factor in (0.9, 1.1):  # one alpha for all cannot beat one each, and no other beats either
        other = laplace_posterior(net, curvature, data_size=1000, prior=alpha * factor)
        assert other.occam_factor < together.occam_factor <= by_tensor.occam_factor
    assert by_tensor.log_evidence(7.0) == by_tensor.occam_factor - 7.0


def test_weights_that_the_data_never_reach_keep_the_priors_variance():
    net = small_net()
    with torch.no_grad():
        net[0].bias[1] = -100.0  # a dead unit
    net.unused = nn.Linear(2, 2)
    net.forward = lambda x: net[2](net[1](net[0](x)))  # type: ignore[method-assign]
    found = laplace_posterior(net, seen(net))
    alpha = found.prior_precisions
    assert np.allclose(found.stats["2.weight"].variance[:, 1], 1 / alpha["2.weight"])
    assert np.allclose(found.stats["0.weight"].variance[1], 1 / alpha["0.weight"])
    assert np.allclose(found.stats["unused.weight"].variance, 1 / alpha["unused.weight"])
    assert alpha["unused.weight"] == alpha["unused.bias"]  # the global one
    assert found.unreached["unused.weight"] == 1.0 and found.determined["unused.weight"] == 0.0
    assert found.unreached["0.weight"] == pytest.approx(1 / 4)


def test_every_decision_takes_it():
    net = small_net()
    found = laplace_posterior(net, seen(net, settings=FisherSettings(temperature=2.0)), data_size=200)
    stats = found.stats["2.weight"]
    scores = snr_weights(found.stats.values())["2.weight"]
    assert np.allclose(scores, stats.mean.astype(float) ** 2 / stats.variance, rtol=1e-4)
    integers = quantize(stats, np.ones((3, 4), bool), 0.05, RateDistortion(price=0.5))
    assert integers.shape == (3, 4) and integers.any()


def test_predicted_loss_is_the_measured_one_for_small_moves():
    """The KL of a network whose weights are moved at random, beside 1/2 tr(F Cov): second order."""
    net = small_net().double()
    x = torch.randn(30, 3, generator=torch.Generator().manual_seed(2)).double()
    curvature = seen(net, x, settings=FisherSettings(kind="exact"))
    moved, draw = small_net().double(), torch.Generator().manual_seed(4)
    before, total, scale = net(x).log_softmax(1).detach(), 0.0, 1e-3
    for _ in range(300):
        with torch.no_grad():
            for p, q in zip(net.parameters(), moved.parameters(), strict=True):
                q.copy_(p + scale * torch.randn(p.shape, generator=draw).double())
            after = moved(x).log_softmax(1)
            total += float((before.exp() * (before - after)).sum() / 30 / 300)
    predicted = 0.5 * scale**2 * sum(float(t.diagonal.sum()) for t in curvature.tensors.values())
    assert total == pytest.approx(predicted, rel=0.15)


def test_bad_input():
    net = small_net()
    curvature = seen(net)
    for change, error, words in (
        ({"structure": "full"}, InputError, "structure must be 'diagonal' or 'kronecker'"),
        ({"prior": "layer"}, InputError, "prior must be 'tensor', 'global' or a precision"),
        ({"prior": 0.0}, InputError, "prior precision must be finite and > 0"),
        ({"data_size": 0}, ScaleError, "data_size"),
    ):
        with pytest.raises(error, match=words):
            laplace_posterior(net, curvature, **change)
    with pytest.raises(InputError, match=r"'0\.weight' of shape \(4, 3\) fits no parameter of this network"):
        laplace_posterior(nn.Linear(2, 2), curvature)
    with torch.no_grad():
        for p in net.parameters():
            p.zero_()
    with pytest.raises(DataError, match=r"reach no weight .* or all that they reach are zero"):
        laplace_posterior(net, curvature)
