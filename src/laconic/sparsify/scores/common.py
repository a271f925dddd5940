"""What all scores share: their two shapes and the check of their numbers.

A higher score means *keep*. Scores of weights are one tensor per parameter, of its shape. Scores of groups
are one float64 number per unit of each coupled group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from laconic.errors import NonFiniteError

WeightScores = dict[str, Tensor]
UnitScores = npt.NDArray[np.float64]
GroupScores = dict[str, UnitScores]
Loss = Callable[[nn.Module, Any], Tensor]

T = TypeVar("T", bound=Mapping[str, Any])


def finite(scores: T, what: str) -> T:
    """The scores, if all are finite. Raises NonFiniteError naming the first layer or group that is not."""
    for name, values in scores.items():
        array = values.detach() if isinstance(values, Tensor) else torch.as_tensor(values)
        bad = int((~torch.isfinite(array)).sum())
        if bad:
            raise NonFiniteError(
                f"{what}: {bad} of {array.numel()} scores of {name!r} are not finite. Cure: look for NaN or "
                "infinity in its weights and in the batches"
            )
    return scores
