"""Signal-to-noise ratio of a posterior: weights and units that are mostly noise are removed."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from laconic.dropout_rate import TINY_VARIANCE, log_alpha
from laconic.errors import InputError
from laconic.records import WeightStats
from laconic.sparsify.scores.aggregate import Members, group_scores, producers, total
from laconic.sparsify.scores.common import GroupScores, WeightScores, finite
from laconic.structure.coupling.groups import Coupling


def snr_weights(stats: Iterable[WeightStats]) -> WeightScores:
    """mean^2 / variance of each weight: the inverse of its dropout rate alpha.

    Source: Molchanov et al. 2017, eq. 12.

    Args:
        stats: Means and variances, one record per tensor.

    Returns:
        By tensor, a float64 tensor of its shape.

    Raises:
        InputError: A variance is negative.
        NonFiniteError: A mean or variance is NaN or infinite; names the tensor.

    >>> one = WeightStats("w", np.float32([2.0, 0.1]), np.float32([0.5, 0.5]))
    >>> [round(s, 3) for s in snr_weights([one])["w"].tolist()]
    [8.0, 0.02]
    """
    squares, variances = _moments(stats)
    return finite({n: squares[n] / (variances[n] + TINY_VARIANCE) for n in squares}, "signal to noise")


def snr_groups(
    module: nn.Module, coupling: Coupling, stats: Iterable[WeightStats], *, members: Members = producers
) -> GroupScores:
    r"""Minus the log dropout rate of each unit, over all the weights that it has in ``members``.

    .. math:: -\log\alpha_u = \log \sum_{i \in u} \mu_i^2 - \log \sum_{i \in u} \sigma_i^2

    Below 0 the noise exceeds the signal. Molchanov's limit, log alpha = 3, is a score of -3
    (:func:`laconic.sparsify.selection.limit.plan_above`). For a posterior over the scale of a whole unit
    (Louizos et al. 2017, eq. 10) hand in statistics of that scale alone.

    Args:
        module: The network.
        coupling: Its groups.
        stats: Means and variances by tensor; weights without statistics are skipped.
        members: Which tensors count: :func:`producers`, :func:`readers` or :func:`everything`.

    Returns:
        By group, one number per unit.

    Raises:
        InputError: Some group has no statistics, or a variance is negative.
        NonFiniteError: A mean or variance is NaN or infinite.

    >>> from laconic.structure import find_groups
    >>> net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> stats = [WeightStats("0.weight", np.float32([[1.0], [0.1]]), np.float32([[0.01], [1.0]]))]
    >>> snr_groups(net, find_groups(net, torch.zeros(2, 1)), stats)["0.weight:0"].round(1).tolist()
    [4.6, -4.6]
    """
    squares, variances = _moments(stats)
    signal = group_scores(module, coupling, squares, how=total, members=members)
    noise = group_scores(module, coupling, variances, how=total, members=members)
    scores = {n: -log_alpha(signal[n], np.log(noise[n] + TINY_VARIANCE)) for n in signal}
    return finite(scores, "signal to noise")


def _moments(stats: Iterable[WeightStats]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    squares, variances = {}, {}
    for s in stats:
        if bool((np.asarray(s.variance) < 0).any()):
            raise InputError(f"the variance of {s.name!r} is negative. Cure: give variances, not their logs")
        squares[s.name] = torch.as_tensor(np.asarray(s.mean, np.float64) ** 2)
        variances[s.name] = torch.as_tensor(np.asarray(s.variance, np.float64))
    return finite(squares, "signal to noise"), finite(variances, "signal to noise")
