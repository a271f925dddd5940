"""Gates of units, one distribution per file; what they multiply stands in :mod:`laconic.methods.gating`."""

from laconic.bayes.gates.gate import Gate
from laconic.bayes.gates.hard_concrete import HardConcrete
from laconic.bayes.gates.truncated_log_normal import TruncatedLogNormal

__all__ = ["Gate", "HardConcrete", "TruncatedLogNormal"]
