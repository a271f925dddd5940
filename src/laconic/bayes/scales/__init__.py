"""Gates that are the scales of a scale mixture, with the KLs of their posteriors; one per file."""

from laconic.bayes.scales.horseshoe import Horseshoe
from laconic.bayes.scales.normal_jeffreys import NormalJeffreys

__all__ = ["Horseshoe", "NormalJeffreys"]
