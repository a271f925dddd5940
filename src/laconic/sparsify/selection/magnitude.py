"""Magnitude pruning: keep the largest weights, over the whole network or layer by layer.

Source: Han et al., Learning both Weights and Connections, NIPS 2015; schedule of Zhu & Gupta 2017
(To prune, or not to prune), eq. 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from laconic.errors import InputError
from laconic.records import FloatArray

Masks = dict[str, npt.NDArray[np.bool_]]


def keep_largest(weights: Mapping[str, FloatArray], sparsity: float, *, per_layer: bool = False) -> Masks:
    """Keep-masks that drop the ``sparsity`` share of smallest magnitudes, ties by position.

    Exactly ``floor(sparsity * n)`` weights go, counted per tensor or over all of them. Of no weights, none.

    >>> import numpy as np
    >>> keep_largest({"w": np.float32([3, -1, 2, 0.5])}, 0.5)["w"].tolist()
    [True, False, True, False]
    """
    if not 0 <= sparsity < 1:
        raise InputError(f"sparsity must lie in [0, 1), got {sparsity}")
    if per_layer or not weights:
        return {name: _keep_flat(np.abs(w).ravel(), sparsity).reshape(w.shape) for name, w in weights.items()}
    flat = np.concatenate([np.abs(w).ravel() for w in weights.values()])
    keep = _keep_flat(flat, sparsity)
    cuts = np.cumsum([w.size for w in weights.values()])[:-1]
    pieces = np.split(keep, cuts)
    return {name: piece.reshape(w.shape) for (name, w), piece in zip(weights.items(), pieces, strict=True)}


def _keep_flat(magnitudes: FloatArray, sparsity: float) -> npt.NDArray[np.bool_]:
    keep = np.ones(magnitudes.size, dtype=bool)
    drop = int(sparsity * magnitudes.size)
    if drop:
        keep[np.argsort(magnitudes, kind="stable")[:drop]] = False
    return keep
