"""Gates of units, one distribution per file; :mod:`laconic.methods.gating` attaches them to a network."""

from laconic.bayes.gates.gate import Gate
from laconic.bayes.gates.hard_concrete import HardConcrete
from laconic.bayes.gates.truncated_log_normal import TruncatedLogNormal

__all__ = ["Gate", "HardConcrete", "TruncatedLogNormal"]
