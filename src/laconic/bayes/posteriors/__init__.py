"""Posterior families, one per file; they know moments and sampling, and no prior."""

from laconic.bayes.posteriors.gaussian import Gaussian

__all__ = ["Gaussian"]
