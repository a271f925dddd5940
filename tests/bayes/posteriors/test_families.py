"""Every family behind the same layers, KLs and methods; what a family of one's own must be."""

import copy
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import laconic
from laconic.bayes import (
    Gaussian,
    GaussianFamily,
    LogUniform,
    Multiplicative,
    MultiplicativeFamily,
    NoiseSource,
    Normal,
    Posterior,
    Scaled,
    ScaledFamily,
    ScaleMixture,
    deterministic_of,
    kl_divergence,
    kl_total,
    make_bayesian,
    plain_copy,
    posteriors_of,
    register_kl,
    spread_of,
)
from laconic.data import load, split
from laconic.errors import InputError, NoKLRuleError
from laconic.methods import SparseVD
from laconic.schedules import WarmUp


@dataclass(frozen=True, eq=False)
class Shared(Posterior):
    """A family of a user's own: one log variance for the whole tensor."""

    mean: Tensor
    log_var: Tensor

    def moments(self):
        return self.mean, self.log_var.exp().expand_as(self.mean)

    def hold(self, keep):
        with torch.no_grad():
            self.mean.mul_(keep)


@register_kl(Shared, Normal)
def shared_normal(q, p):
    return kl_divergence(Gaussian(q.mean, q.log_var.expand_as(q.mean)), p)


def shared(name, weight):
    return Shared(weight, nn.Parameter(torch.full((), -6.0, dtype=weight.dtype)))


FAMILIES = {
    "gaussian": (GaussianFamily(-4.0), LogUniform(), {"_log_var"}),
    "multiplicative, tensor": (MultiplicativeFamily(-2.0), LogUniform(), {"_log_alpha"}),
    "multiplicative, unit": (MultiplicativeFamily(-2.0, per="unit"), LogUniform(exact=True), {"_log_alpha"}),
    "multiplicative, weight": (MultiplicativeFamily(-2.0, per="weight"), Normal(), {"_log_alpha"}),
    "scaled outputs": (
        ScaledFamily(GaussianFamily(-4.0), GaussianFamily(-3.0), axis=0),
        ScaleMixture(),
        {"_log_var", "_scale", "_scale_log_var"},
    ),
    "scaled inputs": (
        ScaledFamily(GaussianFamily(-4.0), MultiplicativeFamily(-3.0, per="weight"), axis=1),
        ScaleMixture(),
        {"_log_var", "_scale", "_scale_log_alpha"},
    ),
    "a user's own": (shared, Normal(), {"_log_var"}),
}


class Mixed(nn.Module):
    """A convolution, a transposed one, an embedding, a recurrent layer and a linear layer."""

    def __init__(self):
        super().__init__()
        self.conv, self.up = nn.Conv2d(1, 4, 3, padding=1), nn.ConvTranspose2d(4, 2, 2, stride=2)
        self.table, self.lstm = nn.Embedding(9, 32), nn.LSTM(32, 6, batch_first=True)
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        image = self.up(F.relu(self.conv(x))).flatten(2).mean(2)  # (batch, 2)
        words = self.table((image.detach().abs() * 10).long().clamp(0, 8))  # (batch, 2, 32)
        return self.out(self.lstm(words + image.unsqueeze(-1))[0][:, -1])


X = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def prepared(family):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Mixed()
    return model, make_bayesian(model, example=X, posterior=family, noise=NoiseSource(0))


@pytest.mark.parametrize("name", FAMILIES)
def test_layers_take_every_family(name):
    family, prior, suffixes = FAMILIES[name]
    model, net = prepared(family)
    weights = [
        "conv.weight",
        "up.weight",
        "table.weight",
        "lstm.weight_ih_l0",
        "lstm.weight_hh_l0",
        "out.weight",
    ]
    posteriors = posteriors_of(net)
    assert list(posteriors) == weights
    assert set(net.state_dict()) - set(model.state_dict()) == {w + s for w in weights for s in suffixes}
    assert sorted([*deterministic_of(net), *weights]) == sorted(n for n, _ in model.named_parameters())
    assert not torch.equal(net(X), net(X))
    assert torch.allclose(net.eval()(X), model.eval()(X), atol=1e-6)  # every family starts at the weights
    net.train()
    loss = net(X).square().sum() + sum(kl_total(q, prior) for q in posteriors.values()) / 100
    loss.backward()
    for weight, q in posteriors.items():
        for suffix, parameter in q.parameters().items():
            assert parameter.grad is not None and bool(parameter.grad.abs().sum() > 0), weight + suffix
    assert {id(p) for p in spread_of(net)} < {id(p) for p in net.parameters()}


@pytest.mark.parametrize("name", FAMILIES)
def test_copies_state_dicts_and_the_plain_network(name):
    model, net = prepared(FAMILIES[name][0])
    with torch.no_grad():
        for q in posteriors_of(net).values():
            for parameter in q.parameters().values():
                parameter.add_(0.25)
    twin, other = copy.deepcopy(net), prepared(FAMILIES[name][0])[1]
    other.load_state_dict(net.state_dict())
    assert torch.equal(net(X), twin(X))  # the noise is copied, too
    assert torch.equal(net.eval()(X), twin.eval()(X)) and torch.equal(net(X), other.eval()(X))
    plain = plain_copy(net)
    assert list(plain.state_dict()) == list(model.state_dict())
    assert torch.allclose(plain.eval()(X), net(X), atol=1e-6)
    q = posteriors_of(net)["out.weight"]
    assert torch.equal(plain.out.weight, q.expectation())
    with torch.no_grad():
        posteriors_of(twin)["out.weight"].parameters()[""].zero_()
    assert not torch.equal(twin(X), net(X))


@pytest.mark.parametrize("name", FAMILIES)
def test_moments_are_those_of_draws(name):
    """3000 draws: five standard errors of a mean, a variance to a quarter (nine of a normal's)."""
    weight = nn.Parameter(torch.linspace(-1.0, 1.5, 6).view(2, 3))
    q = FAMILIES[name][0]("fc.weight", weight)
    noise = NoiseSource(0)
    draws = torch.stack([q.rsample(noise).detach() for _ in range(3000)])
    mean, variance = (m.detach() for m in q.moments())
    assert ((draws.mean(0) - mean).abs() < 5 * (variance / 3000).sqrt() + 1e-7).all()
    assert torch.allclose(draws.var(0), variance, rtol=0.25)
    stats = q.stats("fc.weight")
    assert np.array_equal(stats.mean, mean.numpy()) and np.array_equal(stats.variance, variance.numpy())
    keep = torch.tensor([[True, False, True], [False, True, True]])
    q.hold(keep)
    assert torch.equal(q.expectation() != 0, keep & (weight != 0))
    assert not q.expectation()[~keep].any()


def test_a_family_whose_weights_share_a_number_is_drawn_whole():
    _, net = prepared(FAMILIES["scaled outputs"][0])
    assert type(net.conv).__name__ == "BayesConv2d" and type(net.conv).__module__ == "torch.nn.modules.conv"
    _, net = prepared(FAMILIES["multiplicative, unit"][0])
    assert type(net.conv).__module__ == "laconic.bayes.layers.conv"


def test_the_variance_of_a_scaled_weight_is_that_of_a_product():
    inner = Gaussian(torch.tensor([[2.0, 3.0]]), torch.tensor([[0.0, 0.0]]))
    q = Scaled(inner, Gaussian(torch.tensor([[0.5]]), torch.tensor([[0.25]]).log()), axis=0)
    mean, variance = q.moments()
    assert mean.tolist() == [[1.0, 1.5]]
    # Var[z](Var[w] + E[w]^2) + E[z]^2 Var[w] = 0.25 (1 + 4) + 0.25, 0.25 (1 + 9) + 0.25
    assert variance.tolist() == [[1.5, 2.75]]


def test_what_a_family_must_return():
    layer = nn.Linear(3, 2)
    for family, words in (
        (lambda n, w: 3, r"'weight'.* is a int. Cure: .*laconic.bayes.Posterior"),
        ("multiplicative", r"^posterior='multiplicative' is a str, not a family. Cure: .*GaussianFamily\(\)"),
        (lambda n, w: Gaussian(nn.Parameter(w.detach().clone()), nn.Parameter(w * 0)), "the weight itself"),
        (lambda n, w: Gaussian(w, w.detach() * 0), r"'_log_var' as a Tensor. Cure: nn.Parameter"),
        (lambda n, w: Flat(w), r"moments of shapes \(2, 3\) and \(\), the weight has \(2, 3\)"),
    ):
        with pytest.raises(InputError, match=words):
            make_bayesian(layer, example=torch.ones(1, 3), posterior=family, noise=NoiseSource(0))
    with pytest.raises(InputError, match=r"axis 1 of 'bias'"):
        ScaledFamily(axis=1)("bias", nn.Parameter(torch.ones(3)))
    with pytest.raises(InputError, match="per in weight, unit, tensor"):
        MultiplicativeFamily(per="row")
    with pytest.raises(InputError, match=r"\(3,\) does not broadcast to weights of shape \(3, 2\)"):
        Multiplicative(torch.zeros(3, 2), torch.zeros(3))


@dataclass(frozen=True, eq=False)
class Flat(Posterior):
    mean: Tensor

    def moments(self):
        return self.mean, torch.ones(())

    def hold(self, keep): ...


class Laplace:
    """A prior without any rule."""

    improper = False


def test_a_prior_or_family_without_a_rule_is_told_before_training():
    layer, x = nn.Linear(4, 2), torch.zeros(1, 4)
    with pytest.raises(NoKLRuleError, match=r"KL\(Gaussian \|\| Laplace\).*register_kl\(Gaussian"):
        laconic.prepare(layer, SparseVD(prior=Laplace()), x, data_size=9)
    with pytest.raises(NoKLRuleError, match=r"KL\(Shared \|\| LogUniform\)"):
        laconic.prepare(layer, SparseVD(posterior=shared), x, data_size=9)
    with pytest.raises(NoKLRuleError, match=r"KL\(Scaled \|\| Normal\)"):
        laconic.prepare(layer, SparseVD(posterior=ScaledFamily(), prior=Normal()), x, data_size=9)


@pytest.mark.parametrize(
    "name", ["multiplicative, weight", "multiplicative, unit", "scaled outputs", "a user's own"]
)
def test_sparse_vd_under_every_family(name, tmp_path):
    """Prepare, train, hold, convert and save; the file holds what the converted network computes."""
    family, prior, _ = FAMILIES[name]
    part = split(load("digits"), validation=200, seed=0).train
    x, y = part.inputs[:512], part.labels[:512]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))
    method = SparseVD(posterior=family, prior=prior, warm_up=WarmUp(0.0, 4.0), hold_from=7.0, kl_weight=0.1)
    net = laconic.prepare(model, method, x[:2], data_size=len(x))
    optimizer = torch.optim.Adam(laconic.param_groups(net, 1e-2))
    for _ in range(9):
        for rows in torch.arange(len(x)).split(64):
            loss = laconic.objective(net, (x[rows], y[rows]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            laconic.step(net)
    small = laconic.convert(net)
    error = float((small.module(x).argmax(1) != y).float().mean())
    assert error < 0.3, error  # 0.9 by chance
    left = {n: t.nonzeros() for n, t in small.tensors.items() if n in posteriors_of(net)}
    assert all(left[n] <= m for n, m in method.weights_left(net).items()), left
    laconic.save(small, tmp_path / "small.lac")
    decoded = laconic.runtime.load(tmp_path / "small.lac", threads=1)(x.numpy())
    assert np.allclose(decoded, small.module(x).detach().numpy(), atol=1e-4)
