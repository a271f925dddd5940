"""One file per (posterior, prior) pair; importing this package registers them all."""

from laconic.bayes.kl import gaussian_log_uniform, gaussian_normal, gaussian_spikes
from laconic.bayes.kl.dispatch import kl_divergence, kl_total, register_kl

__all__ = [
    "gaussian_log_uniform",
    "gaussian_normal",
    "gaussian_spikes",
    "kl_divergence",
    "kl_total",
    "register_kl",
]
