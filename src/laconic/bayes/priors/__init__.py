"""Priors, one per file: their parameters and whether they are proper. They import no posterior."""

from laconic.bayes.priors.half_cauchy import HalfCauchy
from laconic.bayes.priors.log_uniform import LogUniform
from laconic.bayes.priors.normal import Normal
from laconic.bayes.priors.prior import Prior
from laconic.bayes.priors.scale_mixture import ScaleMixture
from laconic.bayes.priors.spikes import Spikes

__all__ = ["HalfCauchy", "LogUniform", "Normal", "Prior", "ScaleMixture", "Spikes"]
