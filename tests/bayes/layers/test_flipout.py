"""Flipout: each example's weights follow the posterior, and those of different parts are uncorrelated."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from laconic.bayes.layers.flipout import PARTS, flipped, signs_of
from laconic.bayes.posteriors import GaussianFamily
from laconic.bayes.prepare import make_bayesian, posteriors_of
from laconic.methods import VNQ, SparseVD
from laconic.networks.noise import NoiseSource
from laconic.testing.methods import digits, train
from tests.helpers.five_networks import FIVE

DRAWS = 1000
CASES = {
    "linear": (lambda: nn.Linear(6, 4), (4, 6)),
    "linear 3-d": (lambda: nn.Linear(6, 4, bias=False), (3, 2, 6)),
    "conv1d circular": (lambda: nn.Conv1d(4, 6, 3, padding=2, padding_mode="circular", groups=2), (2, 4, 5)),
    "conv2d depthwise": (lambda: nn.Conv2d(4, 8, 3, padding=1, groups=4), (2, 4, 3, 3)),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2), (3, 2, 3, 2, 2)),
    "transposed 2d": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (2, 4, 2, 2)),
}


def prepared(name: str) -> tuple[nn.Module, torch.Tensor]:
    """A layer of float64 with posteriors of unequal widths, and an input."""
    make, shape = CASES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer, x = make().double(), torch.randn(shape, dtype=torch.float64)
        net = make_bayesian(
            layer, example=x, posterior=GaussianFamily(-2.0), noise=NoiseSource(1), sampling="flipout"
        )
        with torch.no_grad():
            for q in posteriors_of(net).values():
                q.log_var.add_(torch.randn_like(q.log_var))
    return net, x


def moments_by_hand(net: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of the output: the plain layer, and the plain layer of squares."""
    (q,) = posteriors_of(net).values()
    net.eval()
    with torch.no_grad():
        mean = net(x)
        kept = q.mean.clone()
        q.mean.copy_(q.log_var.exp())
        variance = net(x.square()) - net(torch.zeros_like(x))  # without the bias
        q.mean.copy_(kept)
    net.train()
    return mean, variance


@pytest.mark.parametrize("name", CASES)
def test_moments_are_those_of_independent_weights(name: str) -> None:
    net, x = prepared(name)
    mean, variance = moments_by_hand(net, x)
    with torch.no_grad():
        draws = torch.stack([net(x) for _ in range(DRAWS)])
    # up to 400 outputs, each within six standard deviations: fails once in a million runs
    assert ((draws.mean(0) - mean).abs() < 6 * (variance / DRAWS).sqrt() + 1e-9).all()
    reached = variance > 1e-12
    ratio = draws.var(0)[reached] / variance[reached]
    assert (ratio - 1).abs().max() < 6 * (2 / DRAWS) ** 0.5
    assert abs(ratio.mean() - 1) < 0.06


def test_parts_of_a_batch_are_uncorrelated_and_examples_of_one_part_are_not() -> None:
    net, x = prepared("linear")
    with torch.no_grad():
        out = torch.stack([net(x[:1].expand(4, -1)) for _ in range(DRAWS)])[..., 0]
    correlation = torch.corrcoef(out.T)
    # of 1000 independent pairs: a standard deviation of 0.032
    assert PARTS == 2 and correlation[0, 2].abs() < 0.19
    assert torch.allclose(correlation[:2, :2], torch.ones(2, 2, dtype=torch.float64))


def test_gradients_are_those_of_the_drawn_weights() -> None:
    """By autograd through the formula, the parts' weights read off the outputs of unit inputs."""
    net, _ = prepared("linear")
    (q,) = posteriors_of(net).values()
    x = torch.eye(6, dtype=torch.float64).repeat(2, 1).requires_grad_()
    out = net(x)
    first, second = ((part - net.bias).T for part in out.detach().split(6))
    grads = torch.autograd.grad((out * out.detach()).sum(), (q.mean, q.log_var, x))
    pulls = [(o.T @ e) for o, e in zip(out.detach().split(6), x.detach().split(6), strict=True)]
    by_log_var = 0.5 * sum(p * (w - q.mean) for p, w in zip(pulls, (first, second), strict=True))
    by_x = torch.cat([o @ w for o, w in zip(out.detach().split(6), (first, second), strict=True)])
    for found, expected in zip(grads, (pulls[0] + pulls[1], by_log_var, by_x), strict=True):
        assert torch.allclose(found, expected)


def test_flips_keep_sizes_and_are_products_of_signs() -> None:
    zero, one = torch.zeros(3, 4, 2), torch.ones(3, 4, 2)
    flips = [signs_of(zero, torch.Generator().manual_seed(1))]
    plain, signs = flipped(zero, one, one, flips)
    assert torch.equal(plain, one) and torch.equal(signs.abs(), one)
    assert torch.equal(signs[..., 0], signs[..., 1])
    assert torch.equal(signs[:1] * signs[:, :1] * signs[:1, :1], signs)
    assert 0 < (signs > 0).float().mean() < 1


@pytest.mark.parametrize("network", FIVE)
@pytest.mark.parametrize("method", [SparseVD, VNQ])
def test_five_networks_train_by_flipout(network: str, method: type) -> None:
    net = train(FIVE[network](), method(sampling="flipout"), steps=2)
    assert all(torch.isfinite(p).all() and torch.isfinite(p.grad).all() for p in net.parameters())
    assert torch.isfinite(net.eval()(digits()[0][:4])).all()


def test_one_example_and_an_input_without_a_batch_are_one_part() -> None:
    net, x = prepared("conv2d depthwise")
    assert net(x[:1]).shape == (1, 8, 3, 3)
    assert net(x[0]).shape == (8, 3, 3)
