"""Noise on inputs: moments by hand, one draw for each example, whole weights where a layer runs twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from laconic.bayes.layers import NOISY_INPUTS
from laconic.bayes.posteriors import Family, InputNoise
from laconic.bayes.prepare import make_bayesian, posteriors_of, sampling
from laconic.networks.noise import NoiseSource

COPIES = 20_000  # of one example in a batch: each has noise of its own
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "linear": (lambda: nn.Linear(4, 3), (4,), 1),
    "conv1d, groups": (lambda: nn.Conv1d(4, 2, 2, groups=2), (4, 3), 1),
    "conv2d": (lambda: nn.Conv2d(2, 2, 2, padding=1), (2, 2, 2), 1),
    "conv3d": (lambda: nn.Conv3d(1, 2, 2), (1, 2, 2, 3), 1),
    "transposed 1d": (lambda: nn.ConvTranspose1d(2, 2, 2, stride=2), (2, 2), 0),
    "transposed 2d": (lambda: nn.ConvTranspose2d(2, 1, 2), (2, 2, 2), 0),
    "transposed 3d": (lambda: nn.ConvTranspose3d(1, 1, 2), (1, 2, 1, 2), 0),
}


def family(axis: int, log_alpha: list[float] | float = 0.0, bernoulli: bool = False) -> Family:
    def make(name: str, weight: nn.Parameter) -> InputNoise:
        rates = torch.tensor(log_alpha, dtype=weight.dtype)
        if rates.ndim:
            rates = rates.view([len(rates) if k == axis else 1 for k in range(weight.ndim)])
        return InputNoise(weight, nn.Parameter(rates), axis, bernoulli=bernoulli)

    return make


def prepared(layer: nn.Module, x: Tensor, noise: Family) -> nn.Module:
    return make_bayesian(layer, example=x, posterior=noise, noise=NoiseSource(0))


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return make()


@pytest.mark.parametrize("bernoulli", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_outputs_have_the_mean_of_the_plain_layer_and_the_variance_of_noisy_inputs(
    name: str, bernoulli: bool
) -> None:
    make, shape, axis = LAYERS[name]
    layer, one = seeded(make), torch.randn(1, *shape, generator=torch.Generator().manual_seed(2))
    net = prepared(layer, one, family(axis, -0.7, bernoulli))
    assert type(net) is NOISY_INPUTS[type(layer)]
    with torch.no_grad():
        out = net(one.expand(COPIES, *shape))
        squared = seeded(make)
        for own, given in zip(squared.parameters(), layer.parameters(), strict=True):
            own.copy_(given.square() if given.ndim > 1 else torch.zeros_like(given))
        mean, variance = layer(one)[0], torch.exp(torch.tensor(-0.7)) * squared(one.square())[0]
    # In standard errors of 20 000 draws: 6 of the mean; a variance of Bernoulli sums is within 8 %.
    assert ((out.mean(0) - mean).abs() < 6 * (variance / COPIES).sqrt() + 1e-5).all()
    assert ((out.var(0) / variance - 1).abs()[variance > 0] < 0.08).all()
    assert torch.equal(net.eval()(one), layer(one))


def test_each_example_has_noise_of_its_own_in_training_and_each_pass_one_draw_in_sampled_evaluation() -> None:
    x = torch.ones(2, 1, 3)
    net = prepared(nn.Conv1d(1, 3, 1), x, family(1))
    assert net(x).std(0).min() > 0 and net(x).std(2).min() > 0
    net.eval()
    assert torch.equal(net(x), net(x))
    with sampling(net):
        out = net(x)
        assert not torch.equal(out, net(x))
    assert torch.equal(out[0], out[1]) and torch.equal(out[..., 0], out[..., 1])


def test_rates_by_unit_belong_to_their_input_in_every_group() -> None:
    x = torch.ones(1, 4, 1)
    net = prepared(nn.Conv1d(4, 4, 1, groups=2, bias=False), x, family(1, [-60.0, 0.0]))
    with torch.no_grad():
        for unit, noisy in enumerate([False, True, False, True]):
            alone = torch.zeros_like(x)
            alone[:, unit] = 1.0
            assert torch.allclose(net(alone), net(alone)) is not noisy, unit


def test_bernoulli_factors_are_zero_or_one_over_what_is_kept() -> None:
    x = torch.ones(20_000, 1)
    net = prepared(nn.Linear(1, 1, bias=False), x, family(1, -1.3862943611, bernoulli=True))  # p = 0.2
    factors = (net(x) / net.weight).detach().flatten()
    dropped = factors == 0
    assert torch.allclose(factors[~dropped], torch.tensor(1.25))
    assert abs(float(dropped.float().mean()) - 0.2) < 0.015  # five standard errors


def test_an_embedding_has_one_factor_for_each_look_up_and_none_for_padding() -> None:
    words = torch.tensor([[0, 1, 1, 2]])
    layer = nn.Embedding(3, 6, padding_idx=0)
    with torch.no_grad():
        layer.weight[0] = 1.0
    net = prepared(layer, words, family(0, [0.0, 0.0, -60.0]))
    factors = (net(words) / layer(words)).detach()[0]
    assert torch.allclose(factors, factors[:, :1].expand_as(factors), atol=1e-5)
    assert factors[0, 0] == 1.0 and factors[3, 0] == 1.0
    assert len({float(f) for f in factors[:3, 0]}) == 3


class Twice(nn.Module):
    """A linear layer that runs two times: both see the same factors."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.layer(x), self.layer(x)])


def test_a_layer_that_runs_twice_and_a_recurrent_one_have_one_draw_by_input_and_pass() -> None:
    x = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    net = prepared(Twice(), x, family(1))
    first, second = net(x)
    assert torch.equal(first, second) and not torch.equal(first, net(x)[0])
    recurrent = prepared(nn.LSTM(3, 5), torch.zeros(2, 1, 3), family(1))
    q = posteriors_of(recurrent)["weight_ih_l0"]
    ratio = (q.rsample(NoiseSource(3)) / q.expectation()).detach()
    assert torch.allclose(ratio, ratio[:1].expand_as(ratio), atol=1e-5) and ratio[0].unique().numel() == 3


def test_the_rate_learns_from_the_noise() -> None:
    """By the reparameterisation the slope of E y^2 in log alpha is x^2 w^2 alpha."""
    x = torch.full((COPIES, 1), 1.5)
    net = prepared(nn.Linear(1, 1, bias=False), x, family(1, -1.0))
    net(x).square().mean().backward()
    q = posteriors_of(net)["weight"]
    wanted = (1.5 * net.weight.detach()).square() * torch.exp(torch.tensor(-1.0))
    assert float(q.log_alpha.grad / wanted) == pytest.approx(1.0, abs=0.08)  # about five standard errors
