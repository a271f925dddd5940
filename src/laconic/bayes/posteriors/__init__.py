"""Posterior families, one per file: moments and sampling. They import no prior."""

from laconic.bayes.posteriors.clipped import ClippedFamily, ClippedGaussian
from laconic.bayes.posteriors.gaussian import Gaussian, GaussianFamily
from laconic.bayes.posteriors.input_noise import InputNoise
from laconic.bayes.posteriors.log_normal_pair import LogNormalPair
from laconic.bayes.posteriors.multiplicative import Multiplicative, MultiplicativeFamily
from laconic.bayes.posteriors.point import Point
from laconic.bayes.posteriors.posterior import Family, Noise, Posterior
from laconic.bayes.posteriors.scaled import Scaled, ScaledFamily

__all__ = [
    "ClippedFamily",
    "ClippedGaussian",
    "Family",
    "Gaussian",
    "GaussianFamily",
    "InputNoise",
    "LogNormalPair",
    "Multiplicative",
    "MultiplicativeFamily",
    "Noise",
    "Point",
    "Posterior",
    "Scaled",
    "ScaledFamily",
]
