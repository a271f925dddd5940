"""Hard concrete gates of single weights against draws, and against the gates of units."""

from __future__ import annotations

import pytest
import torch

from laconic.bayes import HardConcrete, NoiseSource
from laconic.bayes.posteriors.hard_concrete import HardConcreteFamily, HardConcreteWeights
from laconic.errors import InputError

LOG_ALPHA = torch.tensor([-4.0, -1.0, 0.0, 2.0, 4.6])


def test_draws_have_the_moments_and_the_share_of_zeros_that_are_claimed() -> None:
    theta = torch.tensor([1.0, -2.0, 0.5, 3.0, 1.0])
    draws = 40_000
    q = HardConcreteWeights(theta.expand(draws, -1), LOG_ALPHA.expand(draws, -1))
    drawn = q.rsample(NoiseSource(0))
    mean, variance = HardConcreteWeights(theta, LOG_ALPHA).moments()
    assert torch.allclose(drawn.mean(0), mean, atol=0.02) and torch.allclose(
        drawn.var(0), variance, atol=0.04
    )
    open_share = HardConcreteWeights(theta, LOG_ALPHA).open_probability()
    assert torch.allclose((drawn != 0).float().mean(0), open_share, atol=0.01)
    assert torch.equal(q.expectation()[0], theta * HardConcrete(LOG_ALPHA).expectation())


def test_a_draw_learns_and_a_held_weight_is_zero() -> None:
    theta, log_alpha = torch.ones(5, requires_grad=True), LOG_ALPHA.clone().requires_grad_()
    q = HardConcreteWeights(theta, log_alpha)
    q.rsample(NoiseSource(1)).sum().backward()
    assert float(log_alpha.grad.abs().sum()) > 0 and float(theta.grad.abs().sum()) > 0
    q.hold(torch.tensor([True, False, True, True, True]))
    assert float(theta[1]) == 0.0 and [v[1].item() for v in q.moments()] == [0.0, 0.0]


def test_a_probability_outside_its_bounds() -> None:
    with pytest.raises(InputError, match="probability of an open gate"):
        HardConcreteFamily(1.0)
