"""Bayesian weights: posterior families, priors, their KLs, gates, layers that sample, and the ELBO.

What a prior, a posterior family, a gate or a method of one's own needs is exported here.
"""

from laconic.bayes.gates import Gate, HardConcrete, TruncatedLogNormal
from laconic.bayes.kl import check_rules, kl_divergence, kl_total, register_kl
from laconic.bayes.layers import NoiseSource, Sampling
from laconic.bayes.objective import Objective
from laconic.bayes.picture import draw_prior
from laconic.bayes.posterior_path import PosteriorPath
from laconic.bayes.posteriors import (
    Family,
    Gaussian,
    GaussianFamily,
    InputNoise,
    LogNormalPair,
    Multiplicative,
    MultiplicativeFamily,
    Noise,
    Point,
    Posterior,
    Scaled,
    ScaledFamily,
)
from laconic.bayes.predictive import Predictive, predictive
from laconic.bayes.prepare import (
    deterministic_of,
    make_bayesian,
    mute,
    plain_copy,
    posteriors_of,
    sampling,
    spread_of,
)
from laconic.bayes.priors import (
    Beta,
    DensityPrior,
    Gamma,
    GaussianMixture,
    HalfCauchy,
    Laplace,
    LogUniform,
    Normal,
    Prior,
    ScaleMixture,
    SparseMixture,
    SpikeAndSlab,
    Spikes,
    StudentT,
)
from laconic.bayes.scales import Horseshoe, NormalJeffreys

__all__ = [
    "Beta",
    "DensityPrior",
    "Family",
    "Gamma",
    "Gate",
    "Gaussian",
    "GaussianFamily",
    "GaussianMixture",
    "HalfCauchy",
    "HardConcrete",
    "Horseshoe",
    "InputNoise",
    "Laplace",
    "LogNormalPair",
    "LogUniform",
    "Multiplicative",
    "MultiplicativeFamily",
    "Noise",
    "NoiseSource",
    "Normal",
    "NormalJeffreys",
    "Objective",
    "Point",
    "Posterior",
    "PosteriorPath",
    "Predictive",
    "Prior",
    "Sampling",
    "ScaleMixture",
    "Scaled",
    "ScaledFamily",
    "SparseMixture",
    "SpikeAndSlab",
    "Spikes",
    "StudentT",
    "TruncatedLogNormal",
    "check_rules",
    "deterministic_of",
    "draw_prior",
    "kl_divergence",
    "kl_total",
    "make_bayesian",
    "mute",
    "plain_copy",
    "posteriors_of",
    "predictive",
    "register_kl",
    "sampling",
    "spread_of",
]
