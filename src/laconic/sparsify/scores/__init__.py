"""Scores: the importance of each weight and of each unit of a coupled group. A higher score means *keep*.

Each score is one file. A score of weights is a dictionary of one tensor per parameter, of that parameter's
shape. A score of units is a dictionary of one float64 array per coupled group, with one number per unit.
"""

from laconic.sparsify.scores.activation import (
    InputStats,
    apoz_groups,
    gather_inputs,
    mean_activation_groups,
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
from laconic.sparsify.scores.common import GroupScores, WeightScores
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
from laconic.sparsify.scores.obs import surgeon, sweep
from laconic.sparsify.scores.obs_layers import (
    compensated,
    obs_groups,
    obs_pruned,
    obs_weights,
)
from laconic.sparsify.scores.random import random_groups, random_weights
from laconic.sparsify.scores.snr import snr_groups, snr_weights
from laconic.sparsify.scores.taylor import taylor_groups, taylor_weights

__all__ = [
    "GroupScores",
    "InputStats",
    "WeightScores",
    "apoz_groups",
    "by_largest",
    "by_mean",
    "by_norm",
    "by_rank",
    "by_total",
    "compensated",
    "drawn_labels",
    "drawn_noise",
    "empirical_fisher",
    "everything",
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
    "snr_groups",
    "snr_weights",
    "surgeon",
    "sweep",
    "taylor_groups",
    "taylor_weights",
    "total",
    "wanda_groups",
    "wanda_weights",
    "weights_each",
]
