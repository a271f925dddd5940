"""The exact KL to the multi-spike prior: integration by draws, finite differences, limits, the windows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from laconic.bayes import Gaussian, LogUniform, Multiplicative, Spikes, kl_divergence, kl_total
from laconic.errors import InputError
from tests.helpers.kl_oracles import monte_carlo_kl, posterior

LEVELS = (-0.2, 0.0, 0.2)
MEANS = [0.0, 0.2, 0.13, -0.4, 3.0, 0.2001, -0.1]


@pytest.mark.parametrize("levels", [LEVELS, (-0.2, 0.2), (0.0, 0.3), tuple(np.linspace(-1.0, 1.0, 9))])
@pytest.mark.parametrize("log_var", [-12.0, -6.0, 0.0, 6.0])
def test_against_brute_force(levels: tuple[float, ...], log_var: float) -> None:
    """Up to the constant, which is log K where the rule's density is the mean and the oracle's the sum."""
    kl = kl_divergence(posterior(MEANS, np.full(len(MEANS), log_var)), Spikes(levels, exact=True)).numpy()
    oracle = [
        monte_carlo_kl(t, log_var, lambda w: np.log(sum(1 / np.abs(w - c) for c in levels)), draws=50_000)
        for t in MEANS
    ]
    gap = kl - np.array(oracle)
    # the entropy and the constant of the log-uniform KL, written out
    constant = (
        0.5 * math.log(2 * math.pi * math.e) + 0.5 * (np.euler_gamma + math.log(2)) + math.log(len(levels))
    )
    assert np.abs(gap - constant).max() < 2e-3


def test_it_vanishes_as_the_noise_swamps_the_codebook_and_is_log_k_at_a_level() -> None:
    kl = kl_divergence(posterior([0.1, 0.2], [30.0, -36.0]), Spikes(LEVELS, exact=True))
    assert kl[0].item() == pytest.approx(0.0, abs=1e-6)
    assert kl[1].item() == pytest.approx(math.log(3), abs=1e-6)  # of three spikes the weight is in one


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_deviations_below_the_spacing_of_numbers_about_the_mean(kind: torch.dtype) -> None:
    """1 - 7 sigma and 1 + 7 sigma are both 1; at the level zero squared distances are none of float32."""
    mean = torch.tensor([1.0, 0.0], dtype=kind, requires_grad=True)
    log_var = torch.tensor([-40.0, -40.0], dtype=kind, requires_grad=True)
    kl = kl_divergence(Gaussian(mean, log_var), Spikes((-0.5, 0.0, 0.5), exact=True))
    density = sum(1 / abs(1.0 - c) for c in (-0.5, 0.0, 0.5)) / 3
    far = 0.5 * (np.euler_gamma + math.log(2)) + 20.0 - math.log(density)
    assert kl.dtype == kind
    assert kl.tolist() == pytest.approx([far, math.log(3)], rel=1e-5 if kind == torch.float32 else 1e-2)
    kl.sum().backward()
    for found in (mean.grad, log_var.grad):
        assert found is not None
        assert bool(torch.isfinite(found).all())


def test_far_from_all_levels_it_is_the_exact_log_uniform_kl() -> None:
    q = posterior([300.0, -500.0], [-4.0, 2.0])
    assert torch.allclose(
        kl_divergence(q, Spikes(LEVELS, exact=True)), kl_divergence(q, LogUniform(exact=True)), atol=1e-5
    )


def test_gradients_in_everything_that_may_be_learned() -> None:
    leaves = (
        torch.tensor([0.0, 0.2, 0.13, -0.4, 3.0], dtype=torch.float64, requires_grad=True),
        torch.tensor([-6.0, -8.0, -2.0, 0.0, -4.0], dtype=torch.float64, requires_grad=True),
        torch.tensor(0.7, dtype=torch.float64, requires_grad=True),
        torch.tensor(LEVELS, dtype=torch.float64, requires_grad=True),
    )
    assert torch.autograd.gradcheck(
        lambda m, v, s, c: kl_divergence(Gaussian(m, v), Spikes(c, s, exact=True)), leaves
    )


def test_pieces_shapes_and_single_precision() -> None:
    generator = torch.Generator().manual_seed(0)
    mean = 0.2 * torch.randn(3, 1000, generator=generator)  # more than one piece
    q, p = Gaussian(mean, torch.full_like(mean, -5.0).requires_grad_()), Spikes(LEVELS, exact=True)
    kl = kl_divergence(q, p)
    assert kl.shape == (3, 1000)
    assert kl_total(q, p).item() == pytest.approx(kl.sum().item(), rel=1e-5)
    exact = kl_divergence(posterior(mean[2, 900:].numpy(), np.full(100, -5.0)), p)
    assert torch.allclose(kl[2, 900:].double(), exact, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(kl_divergence(q, p), kl)


def test_the_windows_are_near_the_integral() -> None:
    """The paper's figure is 1.07 nats, with constants matched far away (there log 3 apart)."""
    thetas = np.append(np.linspace(0.0, 0.6, 61), 40.0)
    for log_var, worst in ((-8.0, 1.07), (-2.0, 0.28)):
        q = posterior(thetas, np.full_like(thetas, log_var))
        gap = kl_divergence(q, Spikes(LEVELS)) - kl_divergence(q, Spikes(LEVELS, exact=True))
        assert float((gap - gap[-1]).abs().max()) < worst


@pytest.mark.parametrize("exact", [False, True])
def test_multiplicative_noise_is_the_gaussian_with_its_moments(exact: bool) -> None:
    mean = torch.tensor([[0.21, -0.7], [1.2, 0.03]], dtype=torch.float64, requires_grad=True)
    p = Spikes(LEVELS, torch.tensor(1.3, dtype=torch.float64), exact=exact)
    for shape in ((), (2, 1), (2, 2)):
        log_alpha = torch.linspace(-6.0, -1.0, math.prod(shape), dtype=torch.float64).view(shape)
        log_alpha.requires_grad_()
        kl = kl_divergence(Multiplicative(mean, log_alpha), p)
        same = Gaussian(mean.detach(), (log_alpha + mean.square().log()).detach())
        assert torch.allclose(kl, kl_divergence(same, p), atol=1e-4)  # epsilon at the mean of 0.03
        assert kl_total(Multiplicative(mean, log_alpha), p).item() == pytest.approx(kl.sum().item())
        assert torch.autograd.gradcheck(
            lambda m, a: kl_divergence(Multiplicative(m, a), p).sum(), (mean, log_alpha)
        )


def test_float32_total_of_multiplicative_noise_goes_through_the_compiled_sweep() -> None:
    mean = 0.2 * torch.randn(500, generator=torch.Generator().manual_seed(1))
    leaf = torch.tensor(-3.0, requires_grad=True)
    total = kl_total(Multiplicative(mean, leaf), Spikes(LEVELS))
    total.backward()
    double = torch.tensor(-3.0, dtype=torch.float64, requires_grad=True)
    exact = kl_divergence(Multiplicative(mean.double(), double), Spikes(LEVELS)).sum()
    exact.backward()
    assert total.item() == pytest.approx(exact.item(), rel=1e-5)
    assert leaf.grad is not None and leaf.grad.item() == pytest.approx(double.grad.item(), rel=1e-4)


def test_exact_has_no_windows() -> None:
    with pytest.raises(InputError, match="no windows. Cure: leave out windows, or exact=True"):
        Spikes(LEVELS, windows=(0.1, 0.1, 0.1), exact=True)
