"""Densities of the priors add up to 1, and draws follow them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from laconic.bayes import (
    Beta,
    DensityPrior,
    Gamma,
    GaussianMixture,
    HalfCauchy,
    Laplace,
    LogUniform,
    Normal,
    ScaleMixture,
    SparseMixture,
    SpikeAndSlab,
    Spikes,
    StudentT,
)
from laconic.errors import InputError

MIXTURE = GaussianMixture((-0.3, 0.3), (0.02, 0.02))

PROPER = [
    Normal(0.1, 0.3),
    Laplace(0.2),
    StudentT(3.0, 0.2),
    StudentT(1.0, 0.2),
    GaussianMixture((-0.4, 0.0, 0.5), (0.1, 0.02, 0.2), (0.2, 0.7, 0.1)),
    SpikeAndSlab(Normal(std=0.05), Laplace(0.4), 0.6),
    HalfCauchy(0.3),
]


@pytest.mark.parametrize("prior", PROPER, ids=lambda p: f"{type(p).__name__}-{getattr(p, 'df', '')}")
def test_the_density_is_normalised_and_draws_follow_it(prior: DensityPrior) -> None:
    """The distribution function is the density's integral over w = sinh u. Of 20 000 draws the largest
    distance of the empirical one from it is above 0.0146 with a probability of 4e-4 (Kolmogorov); the seed is
    fixed.
    """
    u = torch.linspace(-16.0, 16.0, 400_001, dtype=torch.float64)
    w = torch.sinh(u)
    mass = prior.log_density(w).exp() * torch.cosh(u) * (u[1] - u[0])
    below = mass.cumsum(0)
    assert below[-1].item() == pytest.approx(1.0, abs=1e-4)
    draws = prior.sample((100, 200), torch.Generator().manual_seed(1))
    assert (draws.shape, draws.dtype) == ((100, 200), torch.float32)
    ordered = draws.double().flatten().sort().values
    at = below[torch.searchsorted(w, ordered).clamp_max(len(w) - 1)]
    ranks = (torch.arange(20_000) + 0.5) / 20_000
    assert (at - ranks).abs().max() < 0.0146
    again = prior.sample((100, 200), torch.Generator().manual_seed(1))
    assert torch.equal(again, draws)


def test_against_torch_distributions() -> None:
    w = torch.tensor([0.0, 0.3, -2.0], dtype=torch.float64)
    of = torch.distributions
    for prior, density in (
        (Normal(0.1, 0.3), of.Normal(0.1, torch.tensor(0.3).double())),
        (Laplace(0.2), of.Laplace(0.0, torch.tensor(0.2).double())),
        (StudentT(2.5, 0.2), of.StudentT(torch.tensor(2.5).double(), 0.0, 0.2)),
        (HalfCauchy(0.3), of.HalfCauchy(torch.tensor(0.3).double(), validate_args=False)),
    ):
        torch.testing.assert_close(prior.log_density(w), density.log_prob(w), rtol=1e-6, atol=1e-6)


def test_improper_densities_up_to_their_constant() -> None:
    w = torch.tensor([0.05, -0.5])
    torch.testing.assert_close(LogUniform().log_density(w), -w.abs().log())
    spikes = Spikes((-0.5, 0.0, 0.25), torch.tensor(2.0)).log_density(torch.tensor([0.25]))
    assert spikes.item() == pytest.approx(math.log((1 / 1.25 + 1 / 0.25 + 1 / 0.25) / 3), rel=1e-6)
    assert torch.isinf(Spikes((-0.5, 0.5)).log_density(torch.tensor(0.5)))


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: Laplace(0.0), r"needs a finite scale > 0, got 0.0. Cure"),
        (lambda: Laplace(math.nan), r"got nan"),
        (lambda: StudentT(df=0.0), r"needs df > 0 and scale > 0, both finite, got 0.0 and 0.1. Cure"),
        (lambda: StudentT(scale=math.inf), r"got 3.0 and inf"),
        (lambda: SpikeAndSlab(spike_share=1.0), r"between 0 and 1, got 1.0. Cure: 0.9"),
        (
            lambda: SpikeAndSlab(slab=LogUniform()),
            r"the slab must be a proper prior .*LogUnif.*Cure: slab=",
        ),
        (lambda: SpikeAndSlab(spike="normal"), r"the spike must be a proper prior .*'normal'"),
    ],
)
def test_bad_settings_are_refused(build: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        build()  # type: ignore[operator]


def test_a_prior_without_draws_says_so() -> None:
    @dataclass(frozen=True)
    class Own(DensityPrior):
        improper = False

        def log_density(self, weights: Tensor) -> Tensor:
            return -weights.square()

    with pytest.raises(InputError, match=r"no draws of Own: it has no method sample. Cure"):
        Own().sample((2,), torch.Generator())


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: Normal(std=1e300), r"^Normal.std must be within .* got 1e\+300. Cure: std=1$"),
        (lambda: Normal(std=1e-300), r"^Normal.std must be within"),
        (lambda: Normal(mean=True), r"^Normal.mean must be a number, got True. Cure: mean=0$"),
        (lambda: Normal(std="1"), r"^Normal.std must be a number, got '1'"),
        (lambda: Laplace(scale=1e300), r"^Laplace.scale must be within"),
        (lambda: Laplace(scale="wide"), r"^Laplace.scale must be a number, got 'wide'"),
        (lambda: StudentT(df=None), r"^StudentT.df must be a number, got None"),
        (lambda: StudentT(scale=1e300), r"^StudentT.scale must be within"),
        (lambda: HalfCauchy((1.0,)), r"^HalfCauchy.scale must be a number"),
        (lambda: HalfCauchy(1e-300), r"^HalfCauchy.scale must be within"),
        (lambda: Gamma("a", 0.1), r"^Gamma.shape must be a number, got 'a'. Cure: shape=250"),
        (lambda: Beta(99.0, True), r"^Beta.b must be a number, got True"),
        (lambda: SpikeAndSlab(spike_share="0.9"), r"^SpikeAndSlab.spike_share must be a number"),
        (lambda: SpikeAndSlab(exact=1), r"^SpikeAndSlab.exact must be True or False, got 1"),
        (
            lambda: LogUniform(clamp=1.0),
            r"^LogUniform.clamp must be a tuple of numbers, got 1.0. Cure: clamp=",
        ),
        (lambda: LogUniform(clamp=("a", "b")), r"^LogUniform.clamp must be a tuple of numbers"),
        (lambda: LogUniform(clamp=(1.0,)), r"clamp must be \(low, high\)"),
        (lambda: LogUniform(exact=math.nan), r"^LogUniform.exact must be True or False, got nan"),
        (lambda: LogUniform(cubic=math.nan), r"^LogUniform.cubic must be True or False, got nan"),
        (
            lambda: SparseMixture(values=1.0),
            r"^SparseMixture.values must be a GaussianMixture, got 1.0. Cure",
        ),
        (lambda: SparseMixture(MIXTURE, zero_share="0.9"), r"^SparseMixture.zero_share must be a number"),
        (lambda: SparseMixture(MIXTURE, log_range="20"), r"^SparseMixture.log_range must be a number"),
        (
            lambda: GaussianMixture(0.0, 0.1),
            r"^GaussianMixture.means must be a tuple of numbers, got 0.0. Cure",
        ),
        (lambda: GaussianMixture((0.0,), "0"), r"^GaussianMixture.stds must be a tuple of numbers, got '0'"),
        (lambda: GaussianMixture((0.0,), (1e300,)), r"stds\[0\] is 1e\+300"),
        (lambda: GaussianMixture((0.0,), (0.1,), exact=math.nan), r"^GaussianMixture.exact must be"),
        (lambda: Spikes(1.0), r"^Spikes.levels must be a tuple of numbers or a tensor, got 1.0"),
        (lambda: Spikes(("a", "b")), r"^Spikes.levels must be a tuple of numbers, got"),
        (lambda: Spikes((0.0, 1.0), scale=0.5), r"^Spikes.scale must be a scalar tensor or None, got 0.5"),
        (lambda: Spikes((0.0, 1.0), windows=0.5), r"^Spikes.windows must be a tuple of numbers, got 0.5"),
        (lambda: ScaleMixture(weights=1.0), r"^ScaleMixture.weights must be a prior, got 1.0. Cure"),
    ],
)
def test_a_field_of_another_kind_is_named(build: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        build()  # type: ignore[operator]
