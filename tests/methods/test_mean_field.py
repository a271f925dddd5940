"""Mean-field inference: its objective, its decision, and uncertainty before and after compression."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

import laconic
from laconic.bayes import Gaussian, GaussianFamily, GaussianMixture, HalfCauchy, Normal, posteriors_of
from laconic.errors import InputError, NoKLRuleError, ReadError, ScaleError
from laconic.methods import Compressed, MagnitudePruning, MeanField
from laconic.methods.common.grid_settings import GridChoice
from laconic.methods.mean_field import scale_mixture
from laconic.schedules import WarmUp
from laconic.tasks import Regression
from tests.helpers.five_networks import FIVE
from tests.helpers.method_suite import digits, train

AT_ONCE = WarmUp(0.0, 0.0)
FINE = GridChoice(steps=(0.25,), prices=(0.0,))


def test_the_penalty_is_the_kl_to_the_prior() -> None:
    """Closed form for a normal prior, against torch.distributions; half of it halfway to a full warm-up."""
    method = MeanField(prior=Normal(0.1, 0.5), warm_up=WarmUp(0.0, 2.0), init_log_var=-3.0, kl_weight=0.5)
    layer = nn.Linear(5, 3)
    net = laconic.prepare(layer, method, torch.zeros(1, 5), data_size=10)
    q = torch.distributions.Normal(layer.weight, math.exp(-1.5))
    kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.1, 0.5)).sum()
    laconic.step(net, terms=10)
    assert float(laconic.penalty(net).detach()) == pytest.approx(
        float(kl.detach()) * 0.5 * 0.5 / 10, rel=1e-5
    )


def test_the_published_prior_is_the_mixture_of_equation_7() -> None:
    prior, w = scale_mixture(0.25, 0.0, -2.0), torch.linspace(-2, 2, 9)
    wide, narrow = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(0.0, math.exp(-2.0))
    wanted = (0.25 * wide.log_prob(w).exp() + 0.75 * narrow.log_prob(w).exp()).log()
    torch.testing.assert_close(prior.log_density(w), wanted)
    q = Gaussian(torch.tensor([0.02, 0.5]), torch.tensor([-7.0, -4.0]))
    bound = laconic.bayes.kl_divergence(q, scale_mixture())
    published = scale_mixture()
    exact = laconic.bayes.kl_divergence(
        q, GaussianMixture(published.means, published.stds, published.shares, exact=True)
    )
    assert (bound >= exact - 1e-5).all() and (bound - exact).max() < math.log(2)  # two components: log 2


def test_a_linear_regression_finds_the_exact_posterior() -> None:
    """One weight has a posterior in closed form, of precision sum(x^2) / s^2 + 1 / std^2.

    It is the optimum of the ELBO over Gaussians; 800 steps of Adam come within 10 % of its deviation (4 % of
    eight initial weights; after 400 steps one of them is 13 % away).
    """
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(0)
    x = torch.randn(40, 1, generator=g)
    y = 0.7 * x + 0.5 * torch.randn(40, 1, generator=g)
    method = MeanField(prior=Normal(std=1.0), warm_up=AT_ONCE, init_log_var=-3.0, noise_lr=1.0)
    net = laconic.prepare(
        nn.Linear(1, 1, bias=False), method, x[:1], data_size=40, task=Regression(noise=0.5)
    ).train()
    optimizer = torch.optim.Adam(laconic.param_groups(net, lr=0.05))
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, 800)
    for _ in range(800):
        loss = laconic.objective(net, (x, y))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        laconic.step(net)
    (q,) = posteriors_of(net).values()
    precision = float(x.square().sum()) / 0.25 + 1.0
    mean, variance = (float(m) for m in q.moments())
    assert mean == pytest.approx(float((x * y).sum()) / 0.25 / precision, abs=0.3 * precision**-0.5)
    assert math.sqrt(variance) == pytest.approx(precision**-0.5, rel=0.1)
    got = laconic.predict(net, torch.tensor([[3.0]]), samples=800)
    assert float(got.variance) == pytest.approx(9.0 * variance + 0.25, rel=0.2)


def _small(init_log_var: float = -4.0) -> tuple[nn.Module, Compressed]:
    method = MeanField(prior=Normal(), init_log_var=init_log_var, grid=FINE, warm_up=AT_ONCE)
    net = train(FIVE["plain"](), method, steps=2)
    return net, laconic.convert(net)


def test_nothing_is_pruned_and_the_step_follows_the_spread() -> None:
    net, small = _small()
    for name, q in posteriors_of(net).items():
        mean, variance = q.moments()
        step = small.tensors[name].grid.numbers[0]
        assert step == pytest.approx(0.25 * float(variance.mean().sqrt()), rel=0.05)
        away = (dict(small.module.named_parameters())[name] - mean).abs().max()
        assert float(away) <= 0.51 * step


def test_a_compressed_network_predicts_as_the_prepared_one() -> None:
    """On a grid finer than the posterior, redrawn levels have the posterior's spread, biases apart."""
    net, small = _small()
    x = digits()[0][:40]
    before, after = laconic.predict(net, x, samples=60), laconic.predict(small, x, samples=60)
    assert float((before.mean - after.mean).abs().mean()) < 0.02
    ratio = float(after.mutual_information.mean() / before.mutual_information.mean())
    assert 0.75 < ratio < 1.33
    assert torch.equal(laconic.predict(small, x, samples=2).mean, laconic.predict(small, x, samples=2).mean)
    held = dict(small.module.named_parameters())  # the result itself is left as it was
    assert all(torch.equal(held[n], torch.from_numpy(t.values())) for n, t in small.tensors.items())


def test_a_file_with_its_record_predicts_as_the_result(tmp_path: Path) -> None:
    _, small = _small()
    laconic.save(small, tmp_path / "model.lac")
    (tmp_path / "record.json").write_text(json.dumps({"facts": dict(small.facts)}))
    x, g = digits()[0][:8], torch.Generator()
    wanted = laconic.predict(small, x, samples=4, generator=g.manual_seed(5))
    got = laconic.predict(tmp_path / "model.lac", x, samples=4, generator=g.manual_seed(5))
    torch.testing.assert_close(got.mean, wanted.mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got.variance, wanted.variance, rtol=1e-3, atol=1e-6)
    (tmp_path / "record.json").write_text("[]")
    with pytest.raises(ReadError, match=r"record.json cannot be read"):
        laconic.predict(tmp_path / "model.lac", x)


def test_what_keeps_no_spread_is_refused() -> None:
    net = laconic.prepare(FIVE["plain"](), MagnitudePruning(), digits()[0][:2], data_size=192)
    small = laconic.convert(net)
    with pytest.raises(InputError, match=r"kept no spread of a posterior.*Cure: a method with"):
        laconic.predict(small, digits()[0][:2])
    prepared = laconic.prepare(FIVE["plain"](), MeanField(), digits()[0][:2], data_size=192)
    with pytest.raises(InputError, match="knows its task"):
        laconic.predict(prepared, digits()[0][:2], task=Regression())


@pytest.mark.parametrize(
    ("settings", "error", "told"),
    [
        ({"noise_lr": 0.0}, InputError, "noise_lr must be > 0"),
        ({"init_log_var": 9.0}, InputError, "inside log_var_bounds"),
        ({"sampling": "once"}, InputError, "sampling must be one of"),
        ({"kl_weight": 0.01}, ScaleError, "looks like 1/data_size"),
        ({"prior": HalfCauchy()}, NoKLRuleError, "Gaussian has rules with the priors"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        laconic.prepare(nn.Linear(4, 2), MeanField(**settings), torch.zeros(1, 4), data_size=100)  # type: ignore[arg-type]


def test_the_spread_of_removed_weights_is_not_kept() -> None:
    """Sparse VD removes most weights here: what they could have been is no part of the result."""
    from laconic.methods import SparseVD

    method = SparseVD(posterior=GaussianFamily(-3.0), warm_up=AT_ONCE, grid=FINE)
    net = laconic.prepare(FIVE["plain"](), method, digits()[0][:2], data_size=192)
    small = laconic.convert(net)
    spreads = small.facts["posterior_spread"].values()
    assert all(told["deviations"][1] * told["share"] < 0.1 for told in spreads)
    got = laconic.predict(small, digits()[0][:4], samples=3)
    assert (got.variance > 0).any()
