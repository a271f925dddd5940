"""One file per (posterior, prior) pair; importing this package registers them all."""

from laconic.bayes.kl import (
    gaussian_log_uniform,
    gaussian_normal,
    gaussian_spikes,
    multiplicative_log_uniform,
    multiplicative_normal,
    scaled_scale_mixture,
)
from laconic.bayes.kl.dispatch import check_rules, kl_divergence, kl_total, register_kl

__all__ = [
    "check_rules",
    "gaussian_log_uniform",
    "gaussian_normal",
    "gaussian_spikes",
    "kl_divergence",
    "kl_total",
    "multiplicative_log_uniform",
    "multiplicative_normal",
    "register_kl",
    "scaled_scale_mixture",
]
