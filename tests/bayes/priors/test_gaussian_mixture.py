"""Mixtures, and the hyper-priors that hold them. Oracles: numerical integrals, the mode by hand, torch."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from laconic.bayes.priors import Beta, Gamma, GaussianMixture, SparseMixture
from laconic.errors import InputError


def test_the_density_integrates_to_one() -> None:
    w = torch.linspace(-5, 5, 20_001).double()
    density = GaussianMixture((-0.5, 0.0, 1.0), (0.2, 0.05, 0.4), (0.2, 0.5, 0.3)).log_density(w).exp()
    assert torch.trapezoid(density, w).item() == pytest.approx(1.0, abs=1e-6)


def test_equal_shares_are_the_default() -> None:
    w = torch.tensor([0.1]).double()
    means, stds = (0.0, 0.3), (0.1, 0.2)
    given = GaussianMixture(means, stds, (0.5, 0.5)).log_density(w).item()
    assert GaussianMixture(means, stds).log_density(w).item() == pytest.approx(given)


def test_a_share_that_underflows_leaves_finite_gradients() -> None:
    logits = torch.tensor([0.0, -200.0], requires_grad=True)
    prior = GaussianMixture((0.0, 1.0), (0.1, 0.1), torch.softmax(logits, 0))
    prior.log_density(torch.tensor([0.2])).sum().backward()
    assert bool(torch.isfinite(logits.grad).all())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"means": (), "stds": ()}, "at least one component, got none"),
        ({"means": (0.0, 1.0), "stds": (0.1,)}, "2 means has 1 stds"),
        ({"means": (0.0,), "stds": (0.0,)}, r"stds\[0\] is 0.0: .* above 0. Cure"),
        ({"means": (0.0,), "stds": (-0.1,)}, r"stds\[0\] is -0.1"),
        ({"means": (0.0,), "stds": (math.nan,)}, r"stds\[0\] is nan"),
        ({"means": (math.inf,), "stds": (0.1,)}, "means of a mixture must be finite"),
        ({"means": (0.0, 1.0), "stds": (0.1, 0.1), "shares": (0.5, 0.6)}, "add up to 1"),
        ({"means": (0.0, 1.0), "stds": (0.1, 0.1), "shares": (1.5, -0.5)}, r"lie in \[0, 1\]"),
    ],
)
def test_what_is_no_mixture(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        GaussianMixture(**settings)


@pytest.mark.parametrize(("share", "log_range"), [(0.0, 20.0), (1.0, 20.0), (0.5, 0.0), (0.5, math.inf)])
def test_what_is_no_sparse_mixture(share: float, log_range: float) -> None:
    with pytest.raises(InputError, match="Cure"):
        SparseMixture(GaussianMixture((0.3,), (0.1,)), share, log_range)


def test_a_gamma_keeps_a_component_from_collapsing_onto_its_weights() -> None:
    """N weights on the mean itself: the likeliest precision is (a - 1 + n/2) / b, not infinite."""
    gamma, n = Gamma(250.0, 0.1), 1000
    log_precision = torch.linspace(0, 20, 200_001).double()
    nats = torch.stack([gamma.nats(v) for v in log_precision[::100]]) - 0.5 * n * log_precision[::100]
    best = log_precision[::100][nats.argmin()].item()
    assert best == pytest.approx(math.log((250 - 1 + n / 2) / 0.1), abs=0.01)


def test_hyper_priors_are_torchs_densities_up_to_a_constant() -> None:
    gamma, beta = Gamma(3.0, 0.5), Beta(9.0, 2.0)
    logs, logits = torch.tensor([0.3, 2.0]).double(), torch.tensor([-1.0, 2.0]).double()
    of_gamma = torch.distributions.Gamma(*torch.tensor([3.0, 0.5]).double()).log_prob(logs.exp())
    of_beta = torch.distributions.Beta(*torch.tensor([9.0, 2.0]).double()).log_prob(torch.sigmoid(logits))
    for prior, given, exact in ((gamma, logs, of_gamma), (beta, logits, of_beta)):
        found = torch.stack([prior.nats(v) for v in given])
        assert (found[1] - found[0]).item() == pytest.approx((exact[0] - exact[1]).item(), rel=1e-9)
        assert bool((found >= 0).all())
    assert gamma.nats(torch.tensor(math.log(4.0)).double()).item() == pytest.approx(0.0, abs=1e-12)
    assert beta.nats(torch.logit(torch.tensor(beta.mode).double())).item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("numbers", [(1.0, 0.1), (5.0, 0.0), (math.inf, 1.0)])
def test_what_is_no_hyper_prior(numbers: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="Cure"):
        Gamma(*numbers)
    with pytest.raises(InputError, match="Cure"):
        Beta(1.0, 2.0)
