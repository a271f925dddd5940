"""Which single weights stay: keep-masks from scores of weights.

Equal scores are ordered by position, the earlier removed first, so that counts are exact and the same scores
give the same masks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from laconic.errors import InputError
from laconic.sparsify.scores.common import finite

Masks = dict[str, npt.NDArray[np.bool_]]
_Numbers = npt.NDArray[np.floating[Any]]


def keep_best(scores: Mapping[str, Tensor], sparsity: float, *, per_layer: bool = False) -> Masks:
    """Keep-masks that drop the ``sparsity`` share of lowest scores, over all tensors or in each.

    Exactly ``floor(sparsity * n)`` weights go, counted over all tensors or per tensor. With magnitudes as
    scores this is magnitude pruning. Source: Han et al., Learning both Weights and Connections, NIPS 2015.

    Args:
        scores: By name, one number for each weight; higher = keep.
        sparsity: Share of weights to drop, in [0, 1).
        per_layer: Rank inside each tensor instead of over all.

    Returns:
        By name, a mask of the tensor's shape: True where the weight stays.

    Raises:
        InputError: A share outside [0, 1), or no scores.
        NonFiniteError: A score that is NaN or infinite.

    >>> import torch
    >>> keep_best({"w": torch.tensor([3.0, -1.0, 2.0, 0.5])}, 0.5)["w"].tolist()
    [True, False, True, False]
    """
    arrays = _arrays(scores, sparsity)
    if per_layer:
        return {name: _keep(a.reshape(1, -1), sparsity).reshape(a.shape) for name, a in arrays.items()}
    flat = _keep(np.concatenate([a.ravel() for a in arrays.values()])[None], sparsity).ravel()
    pieces = np.split(flat, np.cumsum([a.size for a in arrays.values()])[:-1])
    return {name: p.reshape(a.shape) for (name, a), p in zip(arrays.items(), pieces, strict=True)}


def keep_best_of_rows(scores: Mapping[str, Tensor], sparsity: float) -> Masks:
    """Keep-masks that drop the share of lowest scores in every output row (axis 0), as Wanda does.

    Source: Sun et al., ICLR 2024, section 3 (comparison group: per output).

    >>> import torch
    >>> keep_best_of_rows({"w": torch.tensor([[1.0, 2.0], [9.0, 8.0]])}, 0.5)["w"].tolist()
    [[False, True], [True, False]]
    """
    arrays = _arrays(scores, sparsity)
    return {name: _keep(a.reshape(len(a), -1), sparsity).reshape(a.shape) for name, a in arrays.items()}


def check_sparsity(sparsity: float) -> None:
    """Raises InputError for a share of weights to drop outside [0, 1)."""
    if not 0 <= sparsity < 1:
        raise InputError(f"sparsity must lie in [0, 1), got {sparsity}. Cure: sparsity=0.9")


def _arrays(scores: Mapping[str, Tensor], sparsity: float) -> dict[str, _Numbers]:
    check_sparsity(sparsity)
    if not scores:
        raise InputError("there are no scores to choose by. Cure: score at least one weight")
    return {name: _array(s.detach().cpu()) for name, s in finite(scores, "selection").items()}


def _array(scores: Tensor) -> _Numbers:
    """The same numbers; half precision, which NumPy lacks in part, is widened."""
    held = scores if scores.dtype in (torch.float32, torch.float64) else scores.float()
    return np.asarray(held.numpy())


def _keep(rows: _Numbers, sparsity: float) -> npt.NDArray[np.bool_]:
    keep = np.ones(rows.shape, dtype=bool)
    removed = np.argsort(rows, axis=1, kind="stable")[:, : int(sparsity * rows.shape[1])]
    np.put_along_axis(keep, removed, False, axis=1)
    return keep
