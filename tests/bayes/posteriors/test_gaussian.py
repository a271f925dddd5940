import numpy as np
import pytest
import torch

from laconic.bayes.layers import NoiseSource
from laconic.bayes.posteriors import Gaussian
from laconic.errors import InputError


def test_moments_of_draws():
    q = Gaussian(torch.tensor([0.5, -2.0]).repeat(50_000, 1), torch.tensor([-2.0, 1.0]).repeat(50_000, 1))
    draws = q.rsample(NoiseSource(0))
    assert torch.allclose(draws.mean(0), q.mean[0], atol=0.03)
    assert torch.allclose(draws.var(0), q.variance[0], rtol=0.02)


def test_the_draw_follows_the_generator_and_passes_gradients():
    q = Gaussian(torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True))
    first, second = (q.rsample(NoiseSource(7)) for _ in range(2))
    assert torch.equal(first, second)
    first.sum().backward()
    assert torch.equal(q.mean.grad, torch.ones(3))
    assert torch.allclose(q.log_var.grad, 0.5 * first.detach())


def test_log_alpha_of_a_zero_mean_is_finite():
    q = Gaussian(torch.tensor([0.0, 2.0]), torch.tensor([-4.0, -4.0]))
    assert q.log_alpha().tolist() == pytest.approx([-4.0 - np.log(1e-8), -4.0 - np.log(4.0)], rel=1e-5)


def test_stats_are_float32_copies():
    mean = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    q = Gaussian(mean.to(memory_format=torch.channels_last), torch.full_like(mean, -3.0))
    stats = q.stats("conv.weight")
    assert stats.name == "conv.weight" and stats.mean.flags["C_CONTIGUOUS"]
    assert stats.mean.dtype == stats.variance.dtype == np.float32
    assert np.allclose(stats.mean, mean.numpy(), atol=1e-6) and np.allclose(stats.variance, np.exp(-3.0))
    q.mean.zero_()
    assert np.abs(stats.mean).max() > 0


def test_shapes_must_agree():
    with pytest.raises(InputError, match=r"\(2,\) and \(3,\)"):
        Gaussian(torch.zeros(2), torch.zeros(3))
