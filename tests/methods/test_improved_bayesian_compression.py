"""Sparse VD's noise under a learned mixture. Oracles: the rule's sum, Sparse VD itself, the public suite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import laconic
from laconic.bayes import GaussianFamily, Normal, SparseMixture, kl_divergence, posteriors_of
from laconic.errors import InputError
from laconic.methods import ImprovedBayesianCompression, SparseVD
from laconic.methods.mixtures import MixtureSettings, hyper_nats, mixture_parameters
from laconic.schedules import WarmUp
from laconic.testing import check_method
from laconic.zoo import DigitsLSTM, DigitsMLP, DigitsResNet
from tests.helpers.method_suite import digits

AT_ONCE = WarmUp(0.0, 0.0)
QUICK: dict[str, Any] = {"warm_up": WarmUp(0.0, 0.5), "kl_weight": 2.0, "hold_from": 0.8}


def prepared(method: SparseVD) -> nn.Module:
    model = DigitsMLP(hidden=16, generator=torch.Generator().manual_seed(1))
    return laconic.prepare(model, method, digits()[0][:2], data_size=100, seed=0)


@pytest.mark.parametrize("network", [DigitsResNet, DigitsLSTM], ids=["residual", "recurrent"])
def test_it_keeps_the_promises_of_a_method(network: Any, tmp_path: Path) -> None:
    small = check_method(
        ImprovedBayesianCompression(**QUICK),
        lambda: network(generator=torch.Generator().manual_seed(5)),
        tmp_path,
    )
    assert small.facts["codebook"] == "network" and small.facts["levels"] > 2


def test_the_penalty_is_the_rules_sum_and_the_hyper_priors() -> None:
    method = ImprovedBayesianCompression(warm_up=AT_ONCE, kl_weight=0.5)
    net = prepared(method)
    prior = method.prior_of(net)
    assert isinstance(prior, SparseMixture)
    nats = sum(kl_divergence(q, prior).sum().item() for q in posteriors_of(net).values())
    by_hand = 0.5 * (nats + hyper_nats(net, method.mixture).item())
    assert laconic.penalty(net).item() == pytest.approx(by_hand / 100, rel=1e-5)


def test_the_penalty_reaches_means_variances_and_mixture() -> None:
    net = prepared(ImprovedBayesianCompression(warm_up=AT_ONCE))
    laconic.penalty(net).backward()
    reached = {n for n, p in net.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert {"fc1.weight", "fc1.weight_log_var", *mixture_parameters(net)} <= reached
    assert len(mixture_parameters(net)) == 3, "the share of zero stays"


def test_a_zero_share_near_one_is_sparse_vd() -> None:
    """All of the prior in its log-uniform part: the same gradients in means and variances."""
    own = ImprovedBayesianCompression(
        warm_up=AT_ONCE, mixture=MixtureSettings(zero_share=1 - 1e-6, init_std=1e-3, means_lr=0.0)
    )
    grads = []
    for method in (own, SparseVD(warm_up=AT_ONCE)):
        net = prepared(method)
        with torch.no_grad():  # wide posteriors, which no component holds
            for q in posteriors_of(net).values():
                q.log_var.fill_(-3.0)  # type: ignore[attr-defined]
        laconic.penalty(net).backward()
        grads.append([q.log_var.grad for q in posteriors_of(net).values()])  # type: ignore[attr-defined]
    for a, b in zip(*grads, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-6)


def test_rates_hold_every_parameter_once() -> None:
    net = prepared(ImprovedBayesianCompression(noise_lr=5.0))
    groups = laconic.param_groups(net, 0.1)
    held = [id(p) for g in groups for p in g["params"]]
    assert sorted(held) == sorted(id(p) for p in net.parameters())
    assert [round(g["lr"], 9) for g in groups] == [0.1, 0.5, 0.02, 0.6, 0.6]


def test_the_mixture_is_not_trained_where_nothing_is_noisy_any_more() -> None:
    method = ImprovedBayesianCompression(warm_up=AT_ONCE, hold_from=0.0, hold_noise=False)
    assert laconic.penalty(prepared(method)).item() == 0.0


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="log_range is in nats and must be above 0, got 0"):
        ImprovedBayesianCompression(log_range=0.0)
    with pytest.raises(InputError, match="merge_kl"):
        ImprovedBayesianCompression(merge_kl=(-1.0,))
    for given, why in (
        (
            {"prior": Normal()},
            "no setting 'prior': it learns its prior, a mixture whose settings are",
        ),
        ({"posterior": GaussianFamily()}, "no setting 'posterior': its posteriors are Gaussian. Cure: leave"),
    ):
        with pytest.raises(InputError, match=why):
            ImprovedBayesianCompression(**given)  # type: ignore[arg-type]
