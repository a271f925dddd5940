"""Gates on a network whose weights have posteriors: what a pass draws, and what is stored."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from laconic.bayes import GaussianFamily, Horseshoe, NoiseSource, NormalJeffreys, make_bayesian, posteriors_of
from laconic.errors import InputError
from laconic.methods import attach_gates, fold_gates, gates_of
from laconic.methods.gated_moments import gated_moments
from laconic.structure import find_groups
from tests.methods.test_gating import Reader, Residual, X, built


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, dropout=0.0)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        return self.out(self.layer(x.flatten(1).view(-1, 8, 8)).mean(1))


def both(kind, log_var=-4.0, make=lambda g: NormalJeffreys.open(g.size)):
    plain = built(kind)
    coupling = find_groups(plain, X)
    wide = make_bayesian(plain, example=X, posterior=GaussianFamily(log_var), noise=NoiseSource(0))
    return plain, coupling, attach_gates(wide, coupling, make, NoiseSource(1))


def shaken(net):
    """Gates of different means and deviations."""
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for gate in gates_of(net).values():
            gate.mean.uniform_(0.5, 1.5, generator=g)
            gate.log_var.uniform_(-4.0, -2.0, generator=g)
    return net


@pytest.mark.parametrize("kind", [Residual, Reader, Attention])
def test_open_gates_leave_the_network_as_it_is(kind):
    plain, _, net = both(kind)
    assert torch.allclose(net.eval()(X), plain(X), atol=1e-6)
    assert list(posteriors_of(net)) == [n for n, p in plain.named_parameters() if p.ndim > 1]


@pytest.mark.parametrize("kind", [Residual, Reader, Attention])
def test_folding_gives_the_plain_network_of_the_expectations(kind):
    plain, _, net = both(kind)
    shaken(net).eval()
    folded = fold_gates(net)
    assert [type(m) for m in folded.modules()] == [type(m) for m in plain.modules()]
    assert torch.allclose(folded(X), net(X), atol=1e-5) and not torch.allclose(net(X), plain(X), atol=1e-3)


def test_a_pass_draws_weights_and_gates():
    """Output of one linear layer over 4 000 passes: mean and variance of the product, by hand."""
    plain = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1, bias=False))
    with torch.no_grad():
        plain[0].weight.zero_()
        plain[0].bias.copy_(torch.tensor([1.0, 2.0, -1.0]))
    x = torch.zeros(1, 2)
    coupling = find_groups(plain, x)
    wide = make_bayesian(plain, example=x, posterior=GaussianFamily(-2.0), noise=NoiseSource(0))
    net = attach_gates(wide, coupling, lambda g: NormalJeffreys.open(g.size), NoiseSource(1))
    shaken(net).train()
    with torch.no_grad():
        drawn = torch.stack([net(x) for _ in range(4_000)]).flatten()
    mean, variance = gated_moments(net)["1.weight"]
    inputs = plain[0].bias.detach()
    # the first layer reads zeros, so that its weights' noise is none but for a floor of 1e-8
    wanted = (mean * inputs).sum(), (variance * inputs.square()).sum()
    error = (wanted[1] / 4_000).sqrt()
    assert (drawn.mean() - wanted[0]).abs() < 6 * error
    assert drawn.var().item() == pytest.approx(wanted[1].item(), rel=0.2)


def test_layers_that_draw_whole_weights_see_them_gated():
    """An LSTM whose gates are closed computes what one without weights on its hidden state does."""
    _, _, net = both(Reader, -30.0)
    with torch.no_grad():
        for gate in gates_of(net).values():
            gate.mean.zero_()
            gate.log_var.fill_(-60.0)
        net.train()
        once, other = net(X), net(100.0 * X)
    assert torch.allclose(once, other, atol=2e-3)  # neither is read; the noise has a floor of 1e-4


def test_marginal_moments_are_those_of_a_product():
    """Draws of w and z, 200 000 each: mean and variance of their product by NumPy."""
    _, _, net = both(Residual)
    shaken(net)
    gate = next(iter(gates_of(net).values()))
    rng = np.random.default_rng(0)
    name = "out.weight"
    mean, variance = gated_moments(net)[name]
    q = posteriors_of(net)[name]
    group = next(
        g for g in find_groups(built(Residual), X).groups if any(m.tensor == name for m in g.members)
    )
    gate = gates_of(net)[group.name]
    w = rng.normal(q.mean[0, 0].item(), q.std[0, 0].item(), 200_000)
    z = rng.normal(gate.mean[0].item(), gate.variance()[0].sqrt().item(), 200_000)
    assert mean[0, 0].item() == pytest.approx((w * z).mean(), abs=6 * (w * z).std() / 447)
    assert variance[0, 0].item() == pytest.approx((w * z).var(), rel=0.05)


def test_copies_and_states_carry_gates_and_posteriors():
    _, _, net = both(Residual)
    shaken(net)
    _, _, fresh = both(Residual)
    fresh.load_state_dict(net.state_dict())
    twin = copy.deepcopy(net)
    for other in (fresh, twin):
        assert torch.equal(other.eval()(X), net.eval()(X))
    net.train(), twin.train()
    assert torch.equal(net(X), twin(X)), "a copy goes on with the same draws"


def test_all_draws_come_from_one_source():
    _, _, net = both(Residual)
    net.train()
    first = net(X)
    _, _, again = both(Residual)
    assert torch.equal(again.train()(X), first)


def test_shared_parameters_of_a_gate():
    _, _, net = both(Residual, make=lambda g: Horseshoe.open(g.size))
    shapes = {tuple(t.shape) for gate in gates_of(net).values() for t in gate.parameters().values()}
    assert (1,) in shapes and len(shapes) > 1
    with pytest.raises(InputError, match="Cure: "):
        both(Residual, make=lambda g: NormalJeffreys.open(1))
