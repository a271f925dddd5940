"""The Mean-KL parametrisation: against Lambert's W, the closed form of the KL, and finite differences."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import lambertw

from laconic.bayes import Gaussian, Normal
from laconic.bayes.kl import kl_divergence
from laconic.bayes.posteriors.mean_kl import log_variance_of, mean_kl

KL = torch.logspace(-4, 1.5, 40, dtype=torch.float64)
DIRECTION = torch.linspace(-2.5, 2.5, 40, dtype=torch.float64).flip(0)


def test_the_variance_is_that_of_lamberts_w() -> None:
    m, s = mean_kl(DIRECTION, KL)
    d = m.square().numpy()
    wanted = -lambertw(-np.exp(d - 2 * KL.numpy() - 1)).real
    assert np.allclose(s.square().numpy(), wanted, rtol=1e-7)


def test_the_kl_is_the_closed_forms() -> None:
    for dtype, bound in ((torch.float64, 1e-9), (torch.float32, 2e-5)):
        m, s = mean_kl(DIRECTION.to(dtype), KL.to(dtype))
        q = Gaussian(0.3 * m.double(), (0.3 * s.double()).square().log())
        assert torch.allclose(kl_divergence(q, Normal(std=0.3)), KL, rtol=bound, atol=bound)


def test_gradients_are_those_of_finite_differences() -> None:
    inputs = (DIRECTION[::4].clone().requires_grad_(), KL[::4].clone().requires_grad_())
    assert torch.autograd.gradcheck(mean_kl, inputs)


def test_it_is_finite_at_both_ends() -> None:
    kl = torch.tensor([0.0, 1e-12, 80.0], requires_grad=True)
    direction = torch.tensor([0.0, 5.0, 20.0], requires_grad=True)
    m, s = mean_kl(direction, kl)
    (m + s).sum().backward()
    assert torch.isfinite(torch.stack([m, s, kl.grad, direction.grad])).all()
    assert (s > 0).all() and (s <= 1).all()


def test_newton_has_converged() -> None:
    left = torch.logspace(-7, 3, 200, dtype=torch.float64)
    u = log_variance_of(left)
    assert torch.allclose(torch.expm1(u) - u, left, rtol=1e-12)
