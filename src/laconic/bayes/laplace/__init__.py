"""The Laplace posterior of a network that is trained already: curvature, prior precision, variances."""

from laconic.bayes.laplace.curvature import Curvature, KroneckerFactors, TensorCurvature, gather_curvature
from laconic.bayes.laplace.evidence import determined_weights, occam_factor, prior_precision
from laconic.bayes.laplace.posterior import LaplacePosterior, laplace_posterior
from laconic.bayes.laplace.settings import FisherSettings

__all__ = [
    "Curvature",
    "FisherSettings",
    "KroneckerFactors",
    "LaplacePosterior",
    "TensorCurvature",
    "determined_weights",
    "gather_curvature",
    "laplace_posterior",
    "occam_factor",
    "prior_precision",
]
