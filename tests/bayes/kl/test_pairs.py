"""Every pair of a shipped posterior and a shipped prior: the public check of its rule, or a named refusal."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

import laconic.bayes
from laconic.bayes import (
    DensityPrior,
    Gaussian,
    GaussianMixture,
    HalfCauchy,
    InputNoise,
    Laplace,
    LogNormalPair,
    LogUniform,
    Multiplicative,
    Normal,
    Point,
    Posterior,
    Prior,
    Scaled,
    ScaleMixture,
    SparseMixture,
    SpikeAndSlab,
    Spikes,
    StudentT,
    kl_divergence,
)
from laconic.bayes.kl.dispatch import TABLE
from laconic.errors import NoKLRuleError
from laconic.testing import check_kl

MEANS, STDS, SHARES = (-0.4, 0.0, 0.5), (0.3, 0.2, 0.4), (0.2, 0.7, 0.1)
VALUES = GaussianMixture(MEANS, STDS, SHARES, exact=True)
LEVELS = (-0.3, 0.0, 0.1, 0.4)


def double(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


GAUSSIAN = Gaussian(double([0.0, 0.7, -1.3], [0.1, 0.2, -0.3]), double([-2.0, 0.5, -4.0], [-6.0, -3.0, -9.0]))
MULTIPLICATIVE = Multiplicative(double([0.4, -0.7], [1.2, 0.11]), double([-6.0, -2.0], [0.5, -4.0]))
POINT = Point(double([0.0, 0.31, -0.7], [0.4, 0.02, -1.5]))
SCALED = Scaled(GAUSSIAN, Gaussian(double([1.5], [-0.2]), double([-1.0], [-2.0])), axis=0)
SCALED_BY_DROPOUT = Scaled(GAUSSIAN, Multiplicative(double([1.5], [-0.2]), double([-1.0], [-2.0])), axis=0)
INPUT_NOISE = InputNoise(double([0.4, -0.7], [1.2, 0.11]), double([-2.0, 0.3]), axis=1)
LOG_NORMALS = LogNormalPair(*double([0.0], [-2.0], [1.0], [-3.0]))


def normal(w: Tensor, std: float = 0.5) -> Tensor:
    return -0.5 * (math.log(2 * math.pi * std**2) + (w / std).square())


def log_uniform(w: Tensor) -> Tensor:
    return -w.abs().log()


def spikes(w: Tensor, scale: float = 1.0) -> Tensor:
    total = sum((w / scale - c).abs().reciprocal() for c in LEVELS)
    assert isinstance(total, Tensor)
    return total.log()


def mixture(w: Tensor, shares: tuple[float, ...] = SHARES) -> Tensor:
    """The density of three normals, added up."""
    parts = [s * normal(w - m, d).exp() for s, m, d in zip(shares, MEANS, STDS, strict=True)]
    return torch.stack(parts).sum(0).log()


def sparse(w: Tensor) -> Tensor:
    return (0.7 / (2 * 20.0 * w.abs()) + 0.3 * mixture(w).exp()).log()


@dataclass(frozen=True)
class Logistic(DensityPrior):
    """A prior of one's own; the singularities of its log density are pi s away from the real axis."""

    scale: float = 0.5

    def log_density(self, weights: Tensor) -> Tensor:
        half = weights / (2 * self.scale)
        return -2 * torch.nn.functional.softplus(2 * half) + 2 * half - math.log(self.scale)


def logistic(w: Tensor) -> Tensor:
    return (0.25 / 0.5 / torch.cosh(w / (2 * 0.5)).square()).log()


def laplace(w: Tensor) -> Tensor:
    return torch.distributions.Laplace(0.0, torch.tensor(0.3).double()).log_prob(w)


def student(w: Tensor) -> Tensor:
    return torch.distributions.StudentT(torch.tensor(3.0).double(), 0.0, 0.5).log_prob(w)


def spike_and_slab(w: Tensor) -> Tensor:
    return (0.7 * normal(w, 0.2).exp() + 0.3 * laplace(w).exp()).log()


def factors(of_weights: object, of_scales: object) -> object:
    return lambda parts: torch.cat([of_weights(parts[:, :6]), of_scales(parts[:, 6:])], 1)  # type: ignore[operator]


def two_normals(w: Tensor) -> Tensor:
    return (0.7 * normal(w, 0.2).exp() + 0.3 * normal(w).exp()).log()


SPIKE_AND_SLAB = SpikeAndSlab(Normal(std=0.2), Laplace(0.3), 0.7, exact=True)
# By pair the posteriors and priors that are tried, with the prior's log density from its definition.
RULES: dict[tuple[type, type], list[tuple[Posterior, Prior, object]]] = {
    (Gaussian, LogUniform): [(GAUSSIAN, LogUniform(exact=True), log_uniform)],
    (Gaussian, Normal): [(GAUSSIAN, Normal(std=0.5), normal)],
    (Gaussian, Spikes): [
        (GAUSSIAN, Spikes(LEVELS, exact=True), spikes),
        (GAUSSIAN, Spikes(LEVELS, torch.tensor(0.7).double(), exact=True), lambda w: spikes(w, 0.7)),
    ],
    (Gaussian, GaussianMixture): [(GAUSSIAN, VALUES, mixture)],
    (Gaussian, SparseMixture): [(GAUSSIAN, SparseMixture(VALUES, 0.7), sparse)],
    (Multiplicative, GaussianMixture): [(MULTIPLICATIVE, VALUES, mixture)],
    (Multiplicative, SparseMixture): [(MULTIPLICATIVE, SparseMixture(VALUES, 0.7), sparse)],
    (Point, GaussianMixture): [(POINT, VALUES, mixture)],
    (Multiplicative, LogUniform): [(MULTIPLICATIVE, LogUniform(exact=True), log_uniform)],
    (Multiplicative, Normal): [(MULTIPLICATIVE, Normal(std=0.5), normal)],
    (Multiplicative, Spikes): [(MULTIPLICATIVE, Spikes(LEVELS, exact=True), spikes)],
    (Scaled, ScaleMixture): [
        (SCALED, ScaleMixture(Normal(std=0.5), Normal(std=0.5)), normal),
        (SCALED, ScaleMixture(LogUniform(exact=True), LogUniform(exact=True)), log_uniform),
        (SCALED, ScaleMixture(Spikes(LEVELS, exact=True), Normal(std=0.5)), factors(spikes, normal)),
        (SCALED_BY_DROPOUT, ScaleMixture(Normal(std=0.5), Normal(std=0.5)), normal),
    ],
    (Gaussian, Laplace): [(GAUSSIAN, Laplace(0.3), laplace)],
    (Gaussian, SpikeAndSlab): [(GAUSSIAN, SPIKE_AND_SLAB, spike_and_slab)],
    (Gaussian, DensityPrior): [
        (GAUSSIAN, Logistic(), logistic),
        (GAUSSIAN, StudentT(3.0, 0.5), student),
    ],
    (Multiplicative, DensityPrior): [
        (MULTIPLICATIVE, Logistic(), logistic),
        (MULTIPLICATIVE, StudentT(3.0, 0.5), student),
        (MULTIPLICATIVE, Laplace(0.3), laplace),
        (MULTIPLICATIVE, SPIKE_AND_SLAB, spike_and_slab),
    ],
    (Point, DensityPrior): [
        (POINT, Logistic(), logistic),
        (POINT, Normal(std=0.5), normal),
        (POINT, StudentT(3.0, 0.5), student),
        (Point(POINT.mean + 0.01), Laplace(0.3), laplace),  # a kink at zero
        (POINT, SpikeAndSlab(Normal(std=0.2), Normal(std=0.5), 0.7), two_normals),
    ],
    # Its KL is that of the factors, which its weights share: see test_families.py.
    (InputNoise, LogUniform): [],
    # Its KL is that of both factors, which draws of their root do not show: see the rule's own tests.
    (LogNormalPair, HalfCauchy): [],
}
REFUSED = {
    (Gaussian, ScaleMixture): (GAUSSIAN, ScaleMixture()),
    (Multiplicative, ScaleMixture): (MULTIPLICATIVE, ScaleMixture()),
    (Point, LogUniform): (POINT, LogUniform()),
    (Point, ScaleMixture): (POINT, ScaleMixture()),
    (Point, SparseMixture): (POINT, SparseMixture(VALUES)),
    (Point, Spikes): (POINT, Spikes(LEVELS)),
    (Scaled, GaussianMixture): (SCALED, VALUES),
    (Scaled, SparseMixture): (SCALED, SparseMixture(VALUES)),
    (Scaled, LogUniform): (SCALED, LogUniform()),
    (Scaled, Normal): (SCALED, Normal()),
    (Scaled, Spikes): (SCALED, Spikes(LEVELS)),
    (Gaussian, HalfCauchy): (GAUSSIAN, HalfCauchy()),
    (Multiplicative, HalfCauchy): (MULTIPLICATIVE, HalfCauchy()),
    (Scaled, HalfCauchy): (SCALED, HalfCauchy()),
    (Point, HalfCauchy): (POINT, HalfCauchy()),
    (LogNormalPair, GaussianMixture): (LOG_NORMALS, VALUES),
    (LogNormalPair, SparseMixture): (LOG_NORMALS, SparseMixture(VALUES)),
    (LogNormalPair, LogUniform): (LOG_NORMALS, LogUniform()),
    (LogNormalPair, Normal): (LOG_NORMALS, Normal()),
    (LogNormalPair, Spikes): (LOG_NORMALS, Spikes(LEVELS)),
    (LogNormalPair, ScaleMixture): (LOG_NORMALS, ScaleMixture()),
}
REFUSED |= {
    (type(q), type(p)): (q, p)
    for q in (SCALED, LOG_NORMALS)
    for p in (Laplace(), StudentT(), SpikeAndSlab(), Logistic())
}
# Weights that share a factor have no density, so that no prior of weights has a rule.
REFUSED |= {
    (InputNoise, type(prior)): (INPUT_NOISE, prior)
    for prior in [
        *(prior for _, prior in REFUSED.values()),
        *(prior for tried in RULES.values() for _, prior, _ in tried),
    ]
    if not isinstance(prior, LogUniform)
}


def test_the_table_is_complete() -> None:
    shipped = [getattr(laconic.bayes, name) for name in laconic.bayes.__all__]
    kinds = [k for k in shipped if isinstance(k, type)]
    posteriors = [k for k in kinds if issubclass(k, Posterior) and k is not Posterior]
    priors = [k for k in kinds if "improper" in dir(k) and k is not Prior]
    assert {q for q, _ in RULES} == set(posteriors)
    tried = {(type(q), type(p)) for some in RULES.values() for q, p, _ in some}
    tried |= {*RULES, *REFUSED, *((q, DensityPrior) for q in (Scaled, LogNormalPair, InputNoise))}
    assert tried == {(q, p) for q in posteriors for p in [*priors, Logistic]}
    own = {pair for pair in TABLE.pairs() if all(k.__module__.startswith("laconic.") for k in pair)}
    assert own == set(RULES)


@pytest.mark.parametrize(
    ("q", "p", "log_prior"),
    [pytest.param(*case, id=f"{q.__name__}-{p.__name__}") for (q, p), some in RULES.items() for case in some],
)
def test_a_rule_passes_the_public_check(q: Posterior, p: Prior, log_prior: object) -> None:
    check_kl(q, p, log_prior, draws=4000)  # type: ignore[arg-type]


@pytest.mark.parametrize("pair", REFUSED, ids=lambda pair: "-".join(k.__name__ for k in pair))
def test_a_pair_without_a_rule_names_those_that_work(pair: tuple[type, type]) -> None:
    q, p = pair
    any_of = {DensityPrior: "any DensityPrior"}
    priors = ", ".join(any_of.get(b, b.__name__) for a, b in TABLE.pairs() if a is q)
    posteriors = ", ".join(a.__name__ for a, b in TABLE.pairs() if issubclass(p, b))
    with pytest.raises(NoKLRuleError) as caught:
        kl_divergence(*REFUSED[pair])
    text = str(caught.value)
    assert f"no rule for KL({q.__name__} || {p.__name__})" in text
    assert f"{q.__name__} has rules with the priors: {priors};" in text
    assert f"{p.__name__} with the posteriors: {posteriors}. Cure: one of these pairs, or" in text
