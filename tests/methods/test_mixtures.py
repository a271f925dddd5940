"""A learned mixture's parameters. Oracles: the range of the weights, torch's softmax, autograd."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from laconic.errors import InputError
from laconic.methods.mixtures import (
    MixtureSettings,
    attach_mixture,
    hyper_nats,
    mixture_groups,
    mixture_of,
    mixture_parameters,
    numbers_of,
    without_mixture,
    zero_share,
)


def attached(at_zero: bool = True, **settings: Any) -> tuple[nn.Module, MixtureSettings]:
    net = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.linspace(-0.3, 0.5, 8).view(2, 4))
    chosen = MixtureSettings(**{"components": 5, **settings})
    attach_mixture(net, {"weight": net.weight}, chosen, at_zero=at_zero)
    return net, chosen


def test_means_start_evenly_over_the_range_of_the_weights() -> None:
    net, settings = attached()
    means, stds, shares = numbers_of(mixture_of(net, settings))
    assert means.tolist() == pytest.approx([0.0, -0.3, -0.1, 0.1, 0.3, 0.5])
    rms = float(np.sqrt(np.mean(np.linspace(-0.3, 0.5, 8) ** 2)))
    assert stds.tolist() == pytest.approx([rms, *[0.1] * 5])
    assert shares.tolist() == pytest.approx([0.999, *[0.0002] * 5], rel=1e-4)
    assert numbers_of(mixture_of(*attached(init_std=0.02)))[1].tolist() == pytest.approx([0.02] * 6)


def test_without_a_gaussian_at_zero_the_shares_are_those_of_the_values() -> None:
    net, settings = attached(at_zero=False, zero_beta=(9.0, 2.0), zero_share=0.9)
    _, _, shares = numbers_of(mixture_of(net, settings))
    assert shares.tolist() == pytest.approx([0.2] * 5)
    share = zero_share(net, settings)
    assert isinstance(share, torch.Tensor) and share.item() == pytest.approx(0.9)


def test_hyper_priors_and_shares_reach_every_parameter() -> None:
    net, settings = attached(zero_beta=(9.0, 2.0))
    prior = mixture_of(net, settings)
    (hyper_nats(net, settings) - prior.log_density(net.weight).sum()).backward()  # type: ignore[operator, arg-type]
    assert len(mixture_parameters(net)) == 4
    assert all(p.grad is not None and bool(p.grad.any()) for p in mixture_parameters(net).values())
    assert numbers_of(prior)[2].sum() == pytest.approx(1.0)


def test_rates_are_multiples_of_the_weights() -> None:
    net, settings = attached(zero_beta=(9.0, 2.0), means_lr=0.5, precisions_lr=3.0, shares_lr=2.0)
    rates = {id(g["params"][0]): g["lr"] for g in mixture_groups(net, settings, 0.1)}
    named = {n.removeprefix("laconic_mixture_"): rates[id(p)] for n, p in mixture_parameters(net).items()}
    assert named == pytest.approx({"means": 0.05, "log_precisions": 0.3, "logits": 0.2, "zero": 0.2})


def test_it_can_be_taken_away() -> None:
    net, _ = attached()
    assert [n for n, _ in without_mixture(net).named_parameters()] == ["weight"]


def test_equal_weights_have_no_range() -> None:
    with pytest.raises(InputError, match=r"all weights are 0.0: .* Cure: train the network first"):
        attach_mixture(nn.Module(), {"w": torch.zeros(3)}, MixtureSettings(), at_zero=True)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"components": 0}, "components must be 2 to 255, got 0. Cure: 16"),
        ({"components": 256}, "components must be 2 to 255"),
        ({"zero_share": 1.0}, "zero_share must lie between 0 and 1"),
        ({"init_std": 0.0}, "init_std must be above 0, got 0.0. Cure"),
        ({"means_lr": -1.0}, "learning rates must be >= 0"),
        ({"gamma": (1.0, 0.1)}, "needs shape > 1"),
        ({"zero_gamma": (5.0, -2.0)}, "rate > 0"),
        ({"zero_beta": (0.5, 2.0)}, "both numbers above 1"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        MixtureSettings(**settings)
