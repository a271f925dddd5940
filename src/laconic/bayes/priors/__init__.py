"""Priors, one per file: parameters, densities, draws, whether they are proper. They import no posterior."""

from laconic.bayes.priors.density import DensityPrior
from laconic.bayes.priors.gaussian_mixture import GaussianMixture
from laconic.bayes.priors.half_cauchy import HalfCauchy
from laconic.bayes.priors.hyper_priors import Beta, Gamma
from laconic.bayes.priors.laplace import Laplace
from laconic.bayes.priors.log_uniform import LogUniform
from laconic.bayes.priors.normal import Normal
from laconic.bayes.priors.prior import Prior
from laconic.bayes.priors.scale_mixture import ScaleMixture
from laconic.bayes.priors.sparse_mixture import SparseMixture
from laconic.bayes.priors.spike_and_slab import SpikeAndSlab
from laconic.bayes.priors.spikes import Spikes
from laconic.bayes.priors.student_t import StudentT

__all__ = [
    "Beta",
    "DensityPrior",
    "Gamma",
    "GaussianMixture",
    "HalfCauchy",
    "Laplace",
    "LogUniform",
    "Normal",
    "Prior",
    "ScaleMixture",
    "SparseMixture",
    "SpikeAndSlab",
    "Spikes",
    "StudentT",
]
