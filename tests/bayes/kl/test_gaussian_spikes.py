"""Oracles: brute-force integration of the prior itself, eq. 16-17 spelled out, and finite differences."""

import numpy as np
import pytest
import torch

from laconic.bayes.kl import kl_divergence, spikes_sweep
from laconic.bayes.kl.gaussian_spikes import windowed
from laconic.bayes.kl.sigmoid_fit import fit
from laconic.bayes.posteriors import Gaussian
from laconic.bayes.priors import LogUniform, Spikes
from tests.helpers.kl_oracles import monte_carlo_kl, posterior, worst_difference

TERNARY = Spikes((-0.2, 0.0, 0.2))
CODEBOOKS = [
    (-0.2, 0.0, 0.2),
    (0.0, 0.3),
    (-0.2, 0.2),
    (-1.0, -0.5, 0.0, 0.5, 1.0),
    (-0.3, 0.0, 0.1, 0.4),
    (-0.3, -0.1, 0.1, 0.3),
]
THETAS = np.append(np.linspace(0.0, 0.6, 61), 40.0)


def brute_force(levels, log_var, thetas):
    def log_prior(w):
        return np.log(sum(1 / np.abs(w - c) for c in levels))

    return np.array([monte_carlo_kl(t, log_var, log_prior, draws=20_000) for t in thetas])


@pytest.mark.parametrize(
    ("log_var", "worst"), [(-10.0, 1.07), (-8.0, 1.07), (-6.0, 1.07), (-4.0, 0.45), (-2.0, 0.28), (0.0, 0.15)]
)
def test_the_papers_codebook_against_integration(log_var, worst):
    """1.07 nats at most is the paper's figure; ours by sigma are 1.00, 0.96, 0.83, 0.40, 0.25, 0.13."""
    kl = kl_divergence(posterior(THETAS, np.full_like(THETAS, log_var)), TERNARY).numpy()
    assert worst_difference(kl, brute_force(TERNARY.levels, log_var, THETAS), constant_at=-1) < worst


def spelled_out(theta, log_var, levels, widths):
    """Eq. 16-17 for one weight, in plain Python."""
    f = [fit(torch.tensor(log_var - np.log((theta - c) ** 2 + 1e-8))).item() for c in levels]
    window = [np.exp(-((theta - c) ** 2) / (2 * tau**2)) for c, tau in zip(levels, widths, strict=True)]
    if 0.0 not in levels:
        return sum(w * v for w, v in zip(window, f, strict=True)) / sum(window)
    zero = levels.index(0.0)
    rest = 1 - sum(w for k, w in enumerate(window) if k != zero)
    return sum(w * v for k, (w, v) in enumerate(zip(window, f, strict=True)) if k != zero) + rest * f[zero]


@pytest.mark.parametrize("levels", CODEBOOKS)
def test_every_codebook_is_the_papers_formula(levels):
    prior = Spikes(levels)
    for theta in (-0.25, -0.01, 0.0, 0.07, 0.2, 0.31):
        for log_var in (-9.0, -4.0, 0.5):
            got = kl_divergence(posterior([theta], [log_var]), prior).item()
            expected = spelled_out(theta, log_var, levels, prior.window_widths())
            assert got == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("levels", CODEBOOKS)
def test_gradients_by_finite_differences(levels):
    mean = torch.tensor([-0.25, 0.03, 0.21, 0.9], dtype=torch.float64, requires_grad=True)
    log_var = torch.tensor([-6.0, -3.0, -5.0, 0.5], dtype=torch.float64, requires_grad=True)
    scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def kl(m, v, s):
        return kl_divergence(Gaussian(m, v), Spikes(levels, s))

    assert torch.autograd.gradcheck(kl, (mean, log_var, scale))


@pytest.mark.parametrize("levels", CODEBOOKS)
def test_the_fused_sweep_equals_the_plain_expression(levels):
    generator = torch.Generator().manual_seed(1)
    shape = (40_000,)  # more than one piece
    mean = (0.3 * torch.randn(shape, generator=generator, dtype=torch.float64)).requires_grad_()
    log_var = (torch.rand(shape, generator=generator, dtype=torch.float64) * 10 - 9).requires_grad_()
    scale = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    q, prior = Gaussian(mean, log_var), Spikes(levels, scale)
    fused, plain = kl_divergence(q, prior), windowed(q, prior)
    assert torch.allclose(fused, plain, atol=1e-10)
    leaves = (mean, log_var, scale)
    for a, b in zip(
        torch.autograd.grad(fused.sum(), leaves), torch.autograd.grad(plain.sum(), leaves), strict=True
    ):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-6)


def test_levels_may_be_learned_one_by_one():
    levels = torch.tensor([-0.2, 0.0, 0.25], dtype=torch.float64, requires_grad=True)
    q = posterior([0.2, 0.01], [-6.0, -6.0])
    value = kl_divergence(q, Spikes(levels))
    assert torch.allclose(value, kl_divergence(q, Spikes((-0.2, 0.0, 0.25))), atol=1e-6)
    (grad,) = torch.autograd.grad(value.sum(), levels)
    # The mean at 0.2 pulls the level at 0.25 down: moving the level up raises the KL.
    assert grad[2] > 0


def test_a_scaled_codebook_is_a_rescaled_weight():
    q = posterior([0.13, -0.4], [-6.0, -3.0])
    rescaled = posterior(q.mean.numpy() / 2.5, q.log_var.numpy() - 2 * np.log(2.5))
    scale = torch.tensor(2.5, dtype=torch.float64)
    assert torch.allclose(kl_divergence(q, Spikes((-0.2, 0.0, 0.2), scale)), kl_divergence(rescaled, TERNARY))


def test_far_from_all_levels_it_is_the_log_uniform_prior():
    q = posterior([30.0, -30.0], [-4.0, -4.0])
    assert torch.allclose(kl_divergence(q, TERNARY), kl_divergence(q, LogUniform()), atol=1e-9)
    no_zero = kl_divergence(q, Spikes((-0.2, 0.2)))
    assert (no_zero - kl_divergence(q, LogUniform())).abs().max() < 0.01


def test_weights_settle_at_levels():
    thetas = np.linspace(-0.3, 0.3, 121)
    for levels in ((-0.2, 0.0, 0.2), (-0.2, 0.2), (0.0, 0.2)):
        kl = kl_divergence(posterior(thetas, np.full_like(thetas, -9.0)), Spikes(levels)).numpy()
        wells = [k for k in range(1, 120) if kl[k] < kl[k - 1] and kl[k] < kl[k + 1]]
        assert [round(float(thetas[k]), 3) for k in wells] == list(levels)


def test_channels_last_and_sliced_tensors_give_the_same_numbers():
    generator = torch.Generator().manual_seed(0)
    mean = 0.2 * torch.randn(6, 4, 5, 5, generator=generator)
    log_var = torch.full_like(mean, -5.0)
    expected = kl_divergence(Gaussian(mean, log_var), TERNARY)
    last = torch.channels_last
    got = kl_divergence(Gaussian(mean.to(memory_format=last), log_var.to(memory_format=last)), TERNARY)
    assert torch.equal(got, expected) and got.stride() == mean.to(memory_format=last).stride()
    mixed = kl_divergence(Gaussian(mean.to(memory_format=last), log_var), TERNARY)
    assert torch.equal(mixed, expected)
    sliced = kl_divergence(Gaussian(mean[:, ::2], log_var[:, ::2]), TERNARY)
    assert torch.equal(sliced, expected[:, ::2])


@pytest.mark.parametrize("levels", CODEBOOKS)
def test_compiled_numpy_and_torch_do_the_same_sum(levels):
    """Without a compiler NumPy does it, on other devices torch; float32 results differ by rounding alone."""
    prior = Spikes(levels)
    code = spikes_sweep.Code(prior.level_numbers(), prior.window_widths(), prior.base)
    generator = torch.Generator().manual_seed(2)
    mean, log_var = 0.3 * torch.randn(999, generator=generator), torch.randn(999, generator=generator) * 3 - 5
    compiled = spikes_sweep.sweep(mean, log_var, 0.8, code)
    by_numpy = spikes_sweep.sweep_by_pieces(mean, log_var, 0.8, code)
    by_torch = spikes_sweep.sweep_by_pieces(mean, log_var, 0.8, code, numpy=False)
    for a, b, c in zip(compiled, by_numpy, by_torch, strict=True):
        assert torch.allclose(a, b, rtol=2e-5, atol=2e-5)
        assert torch.allclose(c, b, rtol=2e-5, atol=2e-5)


def test_threads_change_no_bit():
    generator = torch.Generator().manual_seed(3)
    q = Gaussian(0.2 * torch.randn(100_003, generator=generator), torch.full((100_003,), -6.0))
    before = torch.get_num_threads()
    try:
        values = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            values.append(kl_divergence(q, TERNARY))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*values)


@pytest.mark.filterwarnings("error")
def test_nan_stays_nan_without_a_warning():
    """The check of the training loss names the layer."""
    q = Gaussian(torch.tensor([float("nan"), 0.1]), torch.tensor([-6.0, -6.0]))
    assert kl_divergence(q, TERNARY).isnan().tolist() == [True, False]
