"""Which single weights stay: keep-masks from scores of weights.

Equal scores go by position, the earlier first, so that counts are exact and the same scores give the same
masks.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from torch import Tensor

from laconic.errors import InputError
from laconic.sparsify.scores.common import finite
from laconic.sparsify.selection.magnitude import Masks


def keep_best(scores: Mapping[str, Tensor], sparsity: float, *, per_layer: bool = False) -> Masks:
    """Keep-masks that drop the ``sparsity`` share of lowest scores, over all tensors or in each.

    Exactly ``floor(sparsity * n)`` weights go.

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


def _arrays(scores: Mapping[str, Tensor], sparsity: float) -> dict[str, npt.NDArray[np.float64]]:
    if not 0 <= sparsity < 1:
        raise InputError(f"sparsity must lie in [0, 1), got {sparsity}")
    if not scores:
        raise InputError("there are no scores to choose by. Cure: score at least one weight")
    return {name: s.detach().double().cpu().numpy() for name, s in finite(scores, "selection").items()}


def _keep(rows: npt.NDArray[np.float64], sparsity: float) -> npt.NDArray[np.bool_]:
    keep = np.ones(rows.shape, dtype=bool)
    gone = np.argsort(rows, axis=1, kind="stable")[:, : int(sparsity * rows.shape[1])]
    np.put_along_axis(keep, gone, False, axis=1)
    return keep
