"""The public check of a KL rule: right rules pass, and each kind of mistake is seen."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from laconic.bayes.kl import register_kl
from laconic.bayes.layers import NoiseSource
from laconic.bayes.posteriors import Gaussian
from laconic.bayes.priors import LogUniform, Normal, Spikes
from laconic.errors import InputError, NoKLRuleError
from laconic.testing import check_kl


def posterior(dtype: torch.dtype = torch.float64) -> Gaussian:
    return Gaussian(torch.tensor([0.0, 0.7, -1.3], dtype=dtype), torch.tensor([-2.0, 0.5, -4.0], dtype=dtype))


def log_normal_density(w: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    return -0.5 * np.log(2 * np.pi) - np.log(std) - 0.5 * ((w - mean) / std) ** 2


def log_uniform_density(w: Tensor) -> Tensor:
    return -w.abs().log()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_proper_prior(dtype: torch.dtype) -> None:
    found = check_kl(posterior(dtype), Normal(0.1, 0.5), lambda w: log_normal_density(w, 0.1, 0.5))
    variance = np.exp([-2.0, 0.5, -4.0])
    mean = np.array([0.0, 0.7, -1.3]) - 0.1
    closed = 0.5 * ((variance + mean**2) / 0.25 - 1 - np.log(variance / 0.25))
    assert np.abs(found.numpy() - closed).max() < 1e-3


def test_an_improper_prior_is_known_up_to_a_constant() -> None:
    check_kl(posterior(), LogUniform(exact=True), log_uniform_density)


def test_the_sigmoid_fit_is_seen_as_a_fit() -> None:
    """Molchanov's fit is up to 0.008 nat away from the truth, and the check sees more than that."""
    with pytest.raises(AssertionError, match="agrees with Monte Carlo"):
        check_kl(posterior(), LogUniform(), log_uniform_density)


@dataclass(frozen=True)
class Flipped(Normal):
    """Its rule has the sign of the mean term wrong."""


@dataclass(frozen=True)
class Detached(Normal):
    """Its rule is right, and has no gradient by the mean."""


@dataclass(frozen=True)
class OtherTotal(Normal):
    """Its rule by weight is right, its quicker sum is not."""


@dataclass(frozen=True)
class Summed(Normal):
    """Its rule gives the sum where the shape of the weights is due."""


def _right(q: Gaussian, p: Normal) -> Tensor:
    return 0.5 * (q.variance + q.mean.square() - 1 - q.log_var)


@register_kl(Gaussian, Flipped)
def _flipped(q: Gaussian, p: Normal) -> Tensor:
    return 0.5 * (q.variance - q.mean.square() - 1 - q.log_var)


@register_kl(Gaussian, Detached)
def _detached(q: Gaussian, p: Normal) -> Tensor:
    return _right(Gaussian(q.mean.detach(), q.log_var), p)


@register_kl(Gaussian, OtherTotal, lambda q, p: _right(q, p).mean())
def _other_total(q: Gaussian, p: Normal) -> Tensor:
    return _right(q, p)


@register_kl(Gaussian, Summed)
def _summed(q: Gaussian, p: Normal) -> Tensor:
    return _right(q, p).sum()


@pytest.mark.parametrize(
    ("prior", "promise"),
    [
        (Flipped(), "the rule agrees with Monte Carlo: the KL of weight 2 is"),
        (Detached(), "the gradient by mean is"),
        (OtherTotal(), "kl_total is the sum over the weights"),
        (Summed(), "the KL has the shape of the log densities"),
    ],
)
def test_a_wrong_rule_fails(prior: Normal, promise: str) -> None:
    with pytest.raises(AssertionError, match=promise):
        check_kl(posterior(), prior, log_normal_density)


@dataclass(frozen=True, eq=False)
class Uniform:
    """A posterior of another family: uniform around a mean."""

    mean: Tensor
    half: Tensor = field(default_factory=lambda: torch.tensor(0.5, dtype=torch.float64))

    def rsample(self, noise: NoiseSource) -> Tensor:
        return self.mean + self.half * (
            2 * torch.rand(self.mean.shape, dtype=torch.float64, generator=noise.generator()) - 1
        )


@register_kl(Uniform, Normal)
def _uniform_normal(q: Uniform, p: Normal) -> Tensor:
    second = q.mean.square() + q.half.square() / 3
    return -torch.log(2 * q.half) + 0.5 * np.log(2 * np.pi) + 0.5 * second


def test_a_posterior_of_another_family() -> None:
    q = Uniform(torch.tensor([0.0, 1.5], dtype=torch.float64))

    def log_posterior(w: Tensor) -> Tensor:
        return torch.full_like(w, -float(torch.log(2 * q.half)))

    check_kl(q, Normal(), log_normal_density, log_posterior, draws=500)
    with pytest.raises(AssertionError, match="agrees with Monte Carlo"):
        check_kl(q, Normal(), lambda w: log_normal_density(w, std=2.0), log_posterior, draws=500)
    with pytest.raises(InputError, match="Cure: log_posterior"):
        check_kl(q, Normal(), log_normal_density)


def test_bad_input() -> None:
    one = Gaussian(torch.zeros(1), torch.zeros(1))
    with pytest.raises(InputError, match="two weights"):
        check_kl(one, LogUniform(exact=True), log_uniform_density)
    with pytest.raises(NoKLRuleError):
        check_kl(object(), Spikes((0.0, 1.0)), log_normal_density, lambda w: w)
