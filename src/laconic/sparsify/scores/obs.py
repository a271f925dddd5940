r"""Optimal Brain Surgeon on one layer's own squared error (second order).

A layer Y = X W^T has, over its inputs X, the squared error's Hessian :math:`H = X^\top X`. Weights are
removed by it, and the weights that stay are adjusted. All functions on matrices take W, (rows, K), and H,
(K, K); damping adds ``damping * mean(diag H)`` to the diagonal. For whole networks see
:mod:`laconic.sparsify.scores.obs_layers`.

Sources: Hassibi & Stork, NIPS 1992; Frantar & Alistarh, Optimal Brain Compression, NeurIPS 2022; Frantar &
Alistarh, SparseGPT, ICML 2023.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from laconic.errors import InputError, NonFiniteError

DAMPING = 0.01


def damped(hessian: Tensor, damping: float = DAMPING) -> Tensor:
    """H + damping * mean(diag H) * I in float64; an input that is always zero gets 1 on the diagonal.

    Raises NonFiniteError for a Hessian that holds a NaN, InputError for a negative damping.
    """
    if not damping >= 0:
        raise InputError(f"damping must not be negative, got {damping}. Cure: damping=0.01")
    h = hessian.detach().to(torch.float64)
    if not bool(torch.isfinite(h).all()):
        raise NonFiniteError("the Hessian holds NaN or infinity. Cure: look for them in the batches")
    diagonal = h.diagonal()
    extra = damping * float(diagonal.mean()) + (diagonal == 0).double()
    return h + torch.diag(extra)


def _inverse(hessian: Tensor, damping: float) -> Tensor:
    factor, info = torch.linalg.cholesky_ex(damped(hessian, damping))
    if int(info):
        raise InputError(
            f"the Hessian of {len(hessian)} inputs is not positive definite with damping {damping}. Cure: "
            "more data or more damping (0.01 is usual)"
        )
    return torch.cholesky_inverse(factor)


def saliencies(weight: Tensor, hessian: Tensor, *, damping: float = DAMPING) -> Tensor:
    """Error of removing each weight alone, the others of its row adjusted: :math:`w_j^2 / 2 [H^{-1}]_{jj}`.

    Half the layer's squared error. Source: Hassibi & Stork 1992, eq. 5.

    >>> saliencies(torch.tensor([[2.0, 1.0]]), torch.eye(2), damping=0.0).tolist()
    [[2.0, 0.5]]
    """
    return 0.5 * weight.detach().double().square() / _inverse(hessian, damping).diagonal()


def compensate(weight: Tensor, hessian: Tensor, keep: Tensor, *, damping: float = DAMPING) -> Tensor:
    r"""The best weights that are zero where ``keep`` is False: one exact solve per distinct row of ``keep``.

    .. math:: w'_K = H_{KK}^{-1} H_{K \cdot}\, w

    Equal rows of ``keep`` share a solve, so removing whole columns takes one; an unstructured mask takes one
    per row. With damping, the damped error is minimised. Source: the normal equations of the constrained
    problem.

    >>> h = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
    >>> compensate(torch.tensor([[2.0, 1.0]]), h, torch.tensor([[True, False]]), damping=0.0).tolist()
    [[2.5, 0.0]]
    """
    w, h = weight.detach().double(), damped(hessian, damping)
    out = torch.zeros_like(w)
    patterns, which = np.unique(keep.cpu().numpy(), axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        rows = torch.as_tensor(np.flatnonzero(which.ravel() == number), device=w.device)
        stay = torch.as_tensor(np.flatnonzero(pattern), device=w.device)
        if len(stay):
            inner = h[stay[:, None], stay]
            solved = torch.linalg.solve(inner, h[stay] @ w[rows].T).T
            out[rows[:, None], stay] = solved
    return out.to(weight.dtype)


def unit_costs(
    weight: Tensor, hessian: Tensor, units: Tensor, size: int, *, damping: float = DAMPING
) -> Tensor:
    r"""Error of removing all columns of a unit, the other columns adjusted.

    .. math:: s_u = \tfrac12 \operatorname{tr}\big(W_u\,([H^{-1}]_{uu})^{-1}\,W_u^\top\big)

    ``units[k]`` is the unit of column k, -1 for none; a unit without columns gives 0. Source: Frantar &
    Alistarh 2022 (groups of weights), for all rows at once.

    >>> w, h = torch.tensor([[2.0, 1.0], [0.0, 3.0]]), torch.eye(2)
    >>> unit_costs(w, h, torch.tensor([0, 1]), 2, damping=0.0).tolist()
    [2.0, 5.0]
    """
    w, inverse = weight.detach().double(), _inverse(hessian, damping)
    costs = torch.zeros(size, dtype=torch.float64)
    for unit in range(size):
        mine = (units == unit).nonzero().ravel()
        if len(mine):
            block = w[:, mine]
            costs[unit] = 0.5 * (torch.linalg.solve(inverse[mine[:, None], mine], block.T).T * block).sum()
    return costs


def surgeon(
    weight: Tensor, hessian: Tensor, sparsity: float, *, damping: float = DAMPING
) -> tuple[Tensor, Tensor]:
    """Optimal Brain Compression: remove the weight of a row with the least error, adjust the row, repeat.

    The removals of all rows are then ordered by their errors, and the first ``floor(sparsity * n)`` are
    taken. What stays is the exact solution for that mask. O(rows K^3): for layers of up to some hundred
    inputs; for larger ones :func:`sweep`. Source: Frantar & Alistarh 2022, algorithm 1 (ExactOBS).

    Args:
        weight: W, (rows, K).
        hessian: H, (K, K).
        sparsity: Share of weights to remove, in [0, 1).
        damping: Share of the mean diagonal that is added to the diagonal.

    Returns:
        New weights, (rows, K), and the keep-mask, (rows, K).

    Raises:
        InputError: A sparsity outside [0, 1), a negative damping, or a Hessian that is not positive definite.
        NonFiniteError: The Hessian holds NaN or infinity.

    >>> surgeon(torch.tensor([[2.0, 1.0]]), torch.eye(2), 0.5, damping=0.0)[1].tolist()
    [[True, False]]
    """
    _check_sparsity(sparsity)
    w = weight.detach().double()
    inverse = _inverse(hessian, damping)
    orders, losses = zip(*(_eliminate(row, inverse) for row in w), strict=True)
    # A removal can be cheaper than the one it had to wait for: neither comes before the other's turn.
    importance = torch.stack(losses).cummax(1).values
    taken = ~_all_but_smallest(importance, int(sparsity * w.numel()))
    keep = torch.ones_like(w, dtype=torch.bool).scatter_(1, torch.stack(orders), ~taken)
    return compensate(weight, hessian, keep, damping=damping), keep


def _eliminate(row: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """All weights of a row in the order of their removal, and the error that each adds then."""
    w, inverse = row.clone(), inverse.clone()
    there = torch.ones_like(w, dtype=torch.bool)
    order, losses = torch.empty(len(w), dtype=torch.long, device=w.device), torch.empty_like(w)
    for step in range(len(w)):
        costs = torch.where(there, 0.5 * w.square() / inverse.diagonal(), torch.inf)
        j = int(costs.argmin())
        order[step], losses[step] = j, costs[j]
        column = inverse[:, j] / inverse[j, j]
        w = w - w[j] * column
        inverse = inverse - torch.outer(column, inverse[j])
        there[j] = False
        w[~there] = 0.0
        inverse[j, j] = 1.0  # it is removed: any number but 0 will do
    return order, losses


def _check_sparsity(sparsity: float) -> None:
    if not 0 <= sparsity < 1:
        raise InputError(f"sparsity must lie in [0, 1), got {sparsity}. Cure: sparsity=0.9")


def sweep(
    weight: Tensor, hessian: Tensor, sparsity: float, *, damping: float = DAMPING, block: int = 128
) -> tuple[Tensor, Tensor]:
    """SparseGPT: mask and adjusted weights in one pass over the columns.

    In each block of columns the weights with the smallest w^2 / [H^-1]_jj^2 are removed (H restricted to the
    columns that are not yet passed), and every later column is adjusted. ``floor(sparsity * n)`` weights are
    removed in all, spread as evenly as possible over the blocks. Source: Frantar & Alistarh 2023, algorithm
    1.

    Args:
        weight: W, (rows, K).
        hessian: H, (K, K).
        sparsity: Share of weights to remove, in [0, 1).
        damping: Share of the mean diagonal that is added to the diagonal.
        block: Columns per block.

    Returns:
        New weights, (rows, K), and the keep-mask, (rows, K).

    Raises:
        InputError: A sparsity outside [0, 1), a block below 1, a negative damping, or a Hessian that is not
            positive definite.
        NonFiniteError: The Hessian holds NaN or infinity.

    >>> sweep(torch.tensor([[2.0, 1.0, 4.0, 3.0]]), torch.eye(4), 0.5, damping=0.0)[1].tolist()
    [[False, False, True, True]]
    """
    _check_sparsity(sparsity)
    if block < 1:
        raise InputError(f"a block must have at least one column, got {block}. Cure: block=128")
    w = weight.detach().double().clone()
    rows, columns = w.shape
    w[:, hessian.diagonal() == 0] = 0
    upper = torch.linalg.cholesky(_inverse(hessian, damping), upper=True)
    keep = torch.ones_like(w, dtype=torch.bool)
    removed = 0
    for start in range(0, columns, block):
        end = min(start + block, columns)
        drop = int(sparsity * rows * end) - removed
        removed += drop
        scores = w[:, start:end].square() / upper.diagonal()[start:end].square()
        keep[:, start:end] = _all_but_smallest(scores, drop)
        errors = torch.zeros(rows, end - start, dtype=w.dtype, device=w.device)
        for j in range(start, end):
            left = torch.where(keep[:, j], w[:, j], 0.0)
            error = (w[:, j] - left) / upper[j, j]
            w[:, j:end] -= error[:, None] * upper[j, j:end]
            w[:, j] = left
            errors[:, j - start] = error
        w[:, end:] -= errors @ upper[start:end, end:]
    return w.to(weight.dtype), keep


def _all_but_smallest(scores: Tensor, drop: int) -> Tensor:
    keep = torch.ones(scores.numel(), dtype=torch.bool, device=scores.device)
    keep[scores.ravel().argsort(stable=True)[:drop]] = False
    return keep.reshape(scores.shape)
