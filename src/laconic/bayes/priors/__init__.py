"""Priors, one per file: their parameters and whether they are proper. They import no posterior."""

from laconic.bayes.priors.gaussian_mixture import GaussianMixture
from laconic.bayes.priors.half_cauchy import HalfCauchy
from laconic.bayes.priors.hyper_priors import Beta, Gamma
from laconic.bayes.priors.log_uniform import LogUniform
from laconic.bayes.priors.normal import Normal
from laconic.bayes.priors.prior import Prior
from laconic.bayes.priors.scale_mixture import ScaleMixture
from laconic.bayes.priors.sparse_mixture import SparseMixture
from laconic.bayes.priors.spikes import Spikes

__all__ = [
    "Beta",
    "Gamma",
    "GaussianMixture",
    "HalfCauchy",
    "LogUniform",
    "Normal",
    "Prior",
    "ScaleMixture",
    "SparseMixture",
    "Spikes",
]
