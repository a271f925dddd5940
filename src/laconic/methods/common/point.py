"""Weights without a posterior: point estimates, which are put on a grid as those of other methods are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import nn

from laconic.methods.common.grid_choice import GridChoice, choose_grid
from laconic.methods.common.rest import nonzeros, rest_of
from laconic.methods.contract import Compressed, Context, Judge
from laconic.networks.policy import weights_of
from laconic.records import FloatArray, WeightStats


def point_stats(name: str, weights: FloatArray) -> WeightStats:
    r"""Statistics of a point estimate: one variance for the tensor, :math:`(\max|w| / 32)^2`.

    A point estimate has no variance of its own. Equal variances make the distortion a mean squared error, and
    a step of one deviation gives 32 levels on each side of zero.

    Args:
        name: The tensor's name.
        weights: float32, any shape.

    Returns:
        Means and variances of that shape.

    >>> point_stats("w", np.float32([1.6, -3.2])).variance.round(4).tolist()
    [0.009999999776482582, 0.009999999776482582]
    """
    scale = float(np.abs(weights).max(initial=0.0)) / 16 or 1.0
    return WeightStats(name, weights, np.full(weights.shape, scale**2 / 4, dtype=np.float32))


def on_a_grid(
    small: nn.Module, grid: GridChoice, context: Context, judge: Judge | None, *, sampled: bool = False
) -> Compressed:
    """A plain network with all of its weights on the grid that validation allows.

    Args:
        small: A plain network; its parameters are written.
        grid: What is tried.
        context: What the user says of single parameters, and the example input.
        judge: Scores candidates.
        sampled: Whether it was trained with weights or units that were drawn, so that batch norm's
            statistics are to be compared with new ones (:func:`laconic.methods.common.norms.better_norms`).

    Returns:
        The compressed network.

    >>> import torch
    >>> from laconic.networks.noise import NoiseSource
    >>> context = Context(data_size=1, noise=NoiseSource(0), example=torch.zeros(1, 4))
    >>> sorted(on_a_grid(nn.Linear(4, 2), GridChoice(), context, None).tensors)
    ['bias', 'weight']
    """
    policy = context.policy
    weights = {
        n: np.asarray(w.detach().cpu(), np.float32) for n, w in weights_of(small, policy=policy).items()
    }
    stats = {n: point_stats(n, w) for n, w in weights.items()}
    keeps: dict[str, npt.NDArray[np.bool_]] = {n: np.ones(w.shape, bool) for n, w in weights.items()}
    for name, zero in context.removed.items():
        if name in keeps and keeps[name].shape == zero.shape:
            keeps[name] = ~zero
    rest = rest_of(small, {n: p for n, p in small.named_parameters() if n not in stats}, policy)
    stats, keeps = {**stats, **rest.frozen}, {**keeps, **nonzeros(rest.frozen)}
    noisy = context if sampled else None
    # the variances stand in for a posterior, and are none that could be drawn from
    return choose_grid(small, stats, keeps, rest.beside, grid, judge, context.example, noisy, spread=False)
