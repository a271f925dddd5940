"""Scores: importance of each weight and of each unit of a coupled group; one file a score, higher = keep."""

from laconic.sparsify.scores.activation import (
    InputStats,
    apoz_groups,
    gather_inputs,
    mean_activation_groups,
    merged,
    wanda_groups,
    wanda_weights,
)
from laconic.sparsify.scores.aggregate import (
    everything,
    group_scores,
    largest,
    mean,
    norm,
    producers,
    readers,
    total,
)
from laconic.sparsify.scores.common import GroupScores, WeightScores, first_input
from laconic.sparsify.scores.fisher import (
    drawn_labels,
    drawn_noise,
    empirical_fisher,
    gauss_newton,
    obd_groups,
    obd_weights,
)
from laconic.sparsify.scores.magnitude import l1_groups, l2_groups, magnitude_weights
from laconic.sparsify.scores.normalise import (
    by_largest,
    by_mean,
    by_norm,
    by_rank,
    by_total,
    groups_each,
    weights_each,
)
from laconic.sparsify.scores.obs import compensate, saliencies, surgeon, sweep, unit_costs
from laconic.sparsify.scores.obs_layers import (
    InputHessian,
    compensated,
    gather_hessians,
    obs_groups,
    obs_pruned,
    obs_weights,
)
from laconic.sparsify.scores.random import random_groups, random_weights
from laconic.sparsify.scores.snr import snr_groups, snr_weights
from laconic.sparsify.scores.taylor import taylor_groups, taylor_weights

__all__ = [
    "GroupScores",
    "InputHessian",
    "InputStats",
    "WeightScores",
    "apoz_groups",
    "by_largest",
    "by_mean",
    "by_norm",
    "by_rank",
    "by_total",
    "compensate",
    "compensated",
    "drawn_labels",
    "drawn_noise",
    "empirical_fisher",
    "everything",
    "first_input",
    "gather_hessians",
    "gather_inputs",
    "gauss_newton",
    "group_scores",
    "groups_each",
    "l1_groups",
    "l2_groups",
    "largest",
    "magnitude_weights",
    "mean",
    "mean_activation_groups",
    "merged",
    "norm",
    "obd_groups",
    "obd_weights",
    "obs_groups",
    "obs_pruned",
    "obs_weights",
    "producers",
    "random_groups",
    "random_weights",
    "readers",
    "saliencies",
    "snr_groups",
    "snr_weights",
    "surgeon",
    "sweep",
    "taylor_groups",
    "taylor_weights",
    "total",
    "unit_costs",
    "wanda_groups",
    "wanda_weights",
    "weights_each",
]
