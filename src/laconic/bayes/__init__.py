"""Bayesian weights: posterior families, priors, their KLs, gates, layers that sample, and the ELBO.

What a prior, a posterior family, a gate or a method of one's own needs is exported here.
"""

from laconic.bayes.gates import Gate, HardConcrete, TruncatedLogNormal
from laconic.bayes.kl import check_rules, kl_divergence, kl_total, register_kl
from laconic.bayes.layers import NoiseSource, Sampling
from laconic.bayes.objective import Objective
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
    Gamma,
    GaussianMixture,
    HalfCauchy,
    LogUniform,
    Normal,
    Prior,
    ScaleMixture,
    SparseMixture,
    Spikes,
)
from laconic.bayes.scales import Horseshoe, NormalJeffreys

__all__ = [
    "Beta",
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
    "Predictive",
    "Prior",
    "Sampling",
    "ScaleMixture",
    "Scaled",
    "ScaledFamily",
    "SparseMixture",
    "Spikes",
    "TruncatedLogNormal",
    "check_rules",
    "deterministic_of",
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
