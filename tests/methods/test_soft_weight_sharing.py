"""Soft weight-sharing. Oracles: the formula by torch.distributions, the values by hand, the public suite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import laconic
from laconic.errors import InputError, ModelError
from laconic.methods import SoftWeightSharing
from laconic.methods.mixtures import MixtureSettings, hyper_nats, mixture_of, numbers_of
from laconic.testing import check_method
from laconic.zoo import DigitsLSTM, DigitsMLP, DigitsResNet
from tests.helpers.method_suite import digits, train

QUICK: dict[str, Any] = {"tau": 0.02, "mixture": MixtureSettings(components=6, zero_share=0.9)}


def prepared(method: SoftWeightSharing, model: nn.Module | None = None) -> nn.Module:
    model = model or DigitsMLP(hidden=16, generator=torch.Generator().manual_seed(1))
    return laconic.prepare(model, method, digits()[0][:2], data_size=100, seed=0)


@pytest.mark.parametrize("network", [DigitsResNet, DigitsLSTM], ids=["residual", "recurrent"])
def test_it_keeps_the_promises_of_a_method(network: Any, tmp_path: Path) -> None:
    small = check_method(
        SoftWeightSharing(**QUICK), lambda: network(generator=torch.Generator().manual_seed(5)), tmp_path
    )
    assert small.facts["codebook"] == "network"


def test_the_penalty_is_minus_the_log_density_of_all_weights_together() -> None:
    method = SoftWeightSharing(tau=0.3)
    net = prepared(method)
    means, stds, shares = numbers_of(mixture_of(net, method.mixture))
    normals = torch.distributions.Normal(torch.from_numpy(means), torch.from_numpy(stds))
    weights = torch.cat([net.fc1.weight.flatten(), net.fc2.weight.flatten()]).double()
    density = (normals.log_prob(weights.unsqueeze(1)).exp() * torch.from_numpy(shares)).sum(1)
    by_hand = 0.3 * (-density.log().sum() + hyper_nats(net, method.mixture))
    assert laconic.penalty(net).item() == pytest.approx(by_hand.item() / 100, rel=1e-5)


def test_the_penalty_reaches_weights_and_mixture() -> None:
    net = prepared(SoftWeightSharing())
    laconic.penalty(net).backward()
    reached = {n for n, p in net.named_parameters() if p.grad is not None and bool(p.grad.any())}
    mixture = {f"laconic_mixture_{part}" for part in ("means", "log_precisions", "logits")}
    assert reached == {"fc1.weight", "fc2.weight", *mixture}


def test_no_weight_decays_and_the_mixture_has_rates_of_its_own() -> None:
    net = prepared(SoftWeightSharing())
    groups = laconic.param_groups(net, 0.1)
    assert all(g["weight_decay"] == 0.0 for g in groups)
    assert [round(g["lr"], 9) for g in groups] == [0.1, 0.02, 0.6, 0.6]
    assert {id(p) for g in groups for p in g["params"]} == {id(p) for p in net.parameters()}


def fitted(model: nn.Module, method: SoftWeightSharing, steps: int) -> nn.Module:
    """The mixture trained alone, under weights that stay."""
    net = prepared(method, model)
    optimizer = torch.optim.Adam(laconic.param_groups(net, 5e-3)[1:])
    for _ in range(steps):
        loss = laconic.penalty(net)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    laconic.step(net, terms=1)
    assert bool(torch.isfinite(loss))
    return net


def test_weights_at_three_values_get_these_values() -> None:
    """A network whose weights are near -0.3, 0 and 0.3: the mixture finds them, and the file holds them."""
    model = DigitsMLP(hidden=16, generator=torch.Generator().manual_seed(1))
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for weight in (model.fc1.weight, model.fc2.weight):
            levels = rng.choice([-0.3, 0.0, 0.3], tuple(weight.shape), p=[0.3, 0.4, 0.3])
            weight.copy_(torch.from_numpy(levels + rng.normal(0, 0.005, levels.shape)))
    mixture = MixtureSettings(components=4, zero_share=0.4, init_std=0.05)
    small = laconic.convert(fitted(model, SoftWeightSharing(mixture=mixture, merge_kl=(2.0,)), 100))
    for name, weight in (("fc1.weight", model.fc1.weight), ("fc2.weight", model.fc2.weight)):
        values = small.tensors[name].values()
        assert np.abs(values - weight.detach().numpy()).max() < 0.03, name
        assert small.tensors[name].distinct() == 3
        assert bool(((values == 0) == (weight.detach().numpy().round(1) == 0)).all())


def test_components_do_not_collapse() -> None:
    """All weights of a value alike: without the hyper-priors its component's width would go to zero."""
    model = DigitsMLP(hidden=16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        model.fc1.weight.copy_(torch.arange(1024).remainder(2).view(16, 64) * 0.25)
    method = SoftWeightSharing(mixture=MixtureSettings(components=4, zero_share=0.5))
    net = fitted(model, method, 200)
    _, stds, shares = numbers_of(mixture_of(net, method.mixture))
    assert stds.min() > 0.005 and shares[0] == pytest.approx(0.5)


def test_weights_left_counts_what_is_not_at_zero() -> None:
    net = train(DigitsMLP(hidden=16), SoftWeightSharing(**QUICK), steps=3)
    left = SoftWeightSharing(**QUICK).weights_left(net)
    small = laconic.convert(net)
    assert set(left) == {"fc1.weight", "fc2.weight"}
    assert all(small.tensors[n].nonzeros() <= count for n, count in left.items())


def test_settings_that_cannot_be_are_refused() -> None:
    for tau in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match=f"tau={tau}: the weight of the prior must be above 0"):
            SoftWeightSharing(tau=tau)
    with pytest.raises(InputError, match="merge_kl"):
        SoftWeightSharing(merge_kl=())
    with pytest.raises(ModelError, match=r"no weight that a mixture could hold.*Cure"):
        prepared(SoftWeightSharing(), DigitsMLP(hidden=16).requires_grad_(False))
    equal = DigitsMLP(hidden=16)
    for p in equal.parameters():
        nn.init.zeros_(p)
    with pytest.raises(InputError, match="all weights are 0.0"):
        prepared(SoftWeightSharing(), equal)
