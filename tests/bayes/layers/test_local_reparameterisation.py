"""Local reparameterisation must have the moments of drawing whole weights; eval must be the plain layer."""

import copy

import pytest
import torch
from torch import nn

from laconic.bayes.layers import Variational, conv, conv_transpose, linear
from laconic.bayes.posteriors import GaussianFamily
from laconic.bayes.prepare import make_bayesian, posteriors_of
from laconic.networks.noise import NoiseSource

DRAWS = 3000
CASES = {
    "linear": (lambda: nn.Linear(6, 4), (3, 6)),
    "linear 3-d, no bias": (lambda: nn.Linear(6, 4, bias=False), (2, 3, 6)),
    "conv1d circular": (lambda: nn.Conv1d(4, 6, 3, padding=2, padding_mode="circular", groups=2), (2, 4, 9)),
    "conv2d": (lambda: nn.Conv2d(3, 5, 3), (2, 3, 7, 6)),
    "conv2d stride, dilation": (
        lambda: nn.Conv2d(2, 4, (3, 2), stride=2, dilation=(1, 2), padding=1),
        (2, 2, 9, 8),
    ),
    "conv2d same": (lambda: nn.Conv2d(2, 3, 4, padding="same", bias=False), (1, 2, 6, 6)),
    "conv2d reflect": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (2, 2, 5, 5)),
    "conv2d replicate": (lambda: nn.Conv2d(2, 3, 3, padding=(1, 0), padding_mode="replicate"), (2, 2, 5, 5)),
    "conv2d depthwise": (lambda: nn.Conv2d(4, 8, 3, padding=1, groups=4), (2, 4, 5, 5)),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2, stride=(1, 2, 1)), (1, 2, 3, 4, 4)),
    "transposed 1d": (lambda: nn.ConvTranspose1d(3, 4, 3, stride=2, output_padding=1), (2, 3, 5)),
    "transposed 2d": (
        lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, groups=2, dilation=2),
        (1, 4, 4, 4),
    ),
    "transposed 3d": (lambda: nn.ConvTranspose3d(2, 2, 2, stride=2, bias=False), (1, 2, 2, 3, 2)),
}


def prepared(name, dtype=torch.float64):
    make, shape = CASES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = make().to(dtype)
        x = torch.randn(shape, dtype=dtype)
    net = make_bayesian(layer, example=x, posterior=GaussianFamily(-3.0), noise=NoiseSource(1))
    with torch.no_grad():
        for q in posteriors_of(net).values():
            q.log_var.add_(torch.randn(q.mean.shape, generator=torch.Generator().manual_seed(2), dtype=dtype))
    return layer, net, x


@pytest.mark.parametrize("name", CASES)
def test_moments_are_those_of_drawn_weights(name):
    layer, net, x = prepared(name)
    (q,) = posteriors_of(net).values()
    noise = NoiseSource(3)
    whole = copy.deepcopy(layer)
    by_weight, by_layer = [], []
    with torch.no_grad():
        for _ in range(DRAWS):
            whole.weight.copy_(q.rsample(noise))
            by_weight.append(whole(x))
            by_layer.append(net(x))
    a, b = torch.stack(by_weight), torch.stack(by_layer)
    error = (a.var(0) / DRAWS).sqrt()
    assert a.shape == b.shape
    assert ((a.mean(0) - b.mean(0)).abs() < 7 * error + 2e-5).all()
    reached = a.var(0) > 1e-9  # a transposed convolution leaves some outputs to the bias alone
    ratio = (b.var(0) / a.var(0))[reached]
    assert reached.any() and (ratio - 1).abs().max() < 0.25 and abs(ratio.mean() - 1) < 0.03
    assert (b.var(0)[~reached] < 2e-8).all()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_eval_is_the_plain_layer_bit_for_bit(name, dtype):
    layer, net, x = prepared(name, dtype)
    assert isinstance(net, Variational) and isinstance(net, type(layer))
    assert type(net).__module__.startswith("laconic.bayes.layers.")
    assert torch.equal(net.eval()(x), layer(x))


@pytest.mark.parametrize("name", CASES)
def test_gradients_reach_mean_log_var_bias_and_input(name):
    _, net, x = prepared(name)
    x = x.requires_grad_()
    net(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
    assert x.grad.abs().sum() > 0


def test_each_example_has_its_own_noise():
    _, net, _ = prepared("linear")
    rows = net(torch.ones(2, 6, dtype=torch.float64))
    assert not torch.equal(rows[0], rows[1])


def test_an_output_size_is_passed_on():
    layer, net, _ = prepared("transposed 1d")
    x = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert net(x, output_size=[11]).shape == layer(x, output_size=[11]).shape == (2, 4, 11)
    assert torch.equal(net.eval()(x, output_size=[12]), layer(x, output_size=[12]))


def test_gradients_are_those_of_the_formula():
    """Against autograd through mean + sqrt(variance) * noise, the noise read off the output."""
    _, net, x = prepared("conv2d")
    (q,) = posteriors_of(net).values()
    out = net(x)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    got = torch.autograd.grad((out * weights).sum(), (q.mean, q.log_var))
    mean = nn.functional.conv2d(x, q.mean, net.bias)
    variance = nn.functional.conv2d(x**2, q.log_var.exp())
    noise = ((out - mean) / variance.sqrt()).detach()
    expected = torch.autograd.grad(((mean + variance.sqrt() * noise) * weights).sum(), (q.mean, q.log_var))
    for a, b in zip(got, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-9)


def test_embedding_draws_looked_up_rows_and_spares_the_padding():
    layer = nn.Embedding(7, 3, padding_idx=2, dtype=torch.float64)
    index = torch.tensor([[0, 2, 5], [5, 5, 6]])
    net = make_bayesian(layer, example=index, posterior=GaussianFamily(-2.0), noise=NoiseSource(0))
    with torch.no_grad():
        draws = torch.stack([net(index) for _ in range(DRAWS)])
    assert (draws[:, index == 2] == 0).all()
    others = draws[:, index != 2]
    assert torch.allclose(others.mean(0), layer.weight[index[index != 2]], atol=0.06)
    assert torch.allclose(
        others.var(0), torch.full_like(others[0], torch.tensor(-2.0).exp().item()), rtol=0.2
    )
    assert torch.equal(net.eval()(index), layer(index))
    net.train()(index).sum().backward()
    used = net.weight_log_var.grad.abs().sum(1) > 0
    assert used.tolist() == [True, False, False, False, False, True, True]


def test_a_second_backward_pass_over_a_kept_graph_gives_the_same_gradients():
    """The slope of the noise is overwritten in the last pass over a graph only."""
    _, net, x = prepared("conv2d", torch.float32)
    loss = net(x.requires_grad_()).square().sum()
    wanted = [x, *net.parameters()]
    first = torch.autograd.grad(loss, wanted, retain_graph=True)
    for again, once in zip(torch.autograd.grad(loss, wanted), first, strict=True):
        assert torch.equal(again, once)


@pytest.mark.parametrize("name", CASES)
def test_one_step_of_autograd_is_the_plain_formula(name, monkeypatch):
    """Against the same noise by separate steps of autograd, as under autocast."""
    found = []
    for fused in (True, False):
        _, net, x = prepared(name, torch.float32)
        for module in (linear, conv, conv_transpose):
            monkeypatch.setattr(module, "fits", lambda x, weight, fused=fused: fused)
        out = net(x.requires_grad_())
        found.append([out, *torch.autograd.grad(out.sin().sum(), [x, *net.parameters()])])
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)
