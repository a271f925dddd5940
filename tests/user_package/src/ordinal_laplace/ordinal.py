"""Classes with an order, as grades. Imports no torch before a likelihood is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from laconic.errors import DataError, InputError
from laconic.tasks import Metric, Task


@dataclass(frozen=True)
class OrdinalRegression(Task):
    r"""Ordered classes; metric: mean absolute error in ranks.

    .. math:: \sum_n \sum_{k=1}^{K-1} -\log \sigma\big((2 [y_n \ge k] - 1)\, z_{nk}\big)

    Outputs are logits (N, K - 1), the k-th of them for "the class is k or higher"; targets are classes (N,)
    in 0..K-1. Each example is one term. The prediction is the number of logits above 0.

    Source: Frank & Hall, A simple approach to ordinal classification (2001).
    """

    @property
    def metric(self) -> Metric:
        """Mean distance of the predicted class from the true one."""
        return Metric("mean rank error", "ranks", tolerance=0.02)

    def nll(self, outputs: Any, target: Any, **learnt: Any) -> Any:
        """Summed over the examples, nats."""
        import torch.nn.functional as F

        _check(outputs, target)
        logits = outputs.float() if outputs.itemsize < 4 else outputs
        above = (target[:, None] > target.new_tensor(range(outputs.shape[1]))).to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, above, reduction="sum")

    def measure(self, outputs: Any, target: Any) -> Any:
        """Summed distance, and number of examples."""
        _check(outputs, target)
        distance = np.abs((outputs > 0).sum(1) - target.astype(np.int64))
        return np.array([distance.sum(), len(target)], dtype=np.float64)

    def nats(self, outputs: Any, target: Any) -> float:
        """:meth:`nll` on NumPy arrays."""
        _check(outputs, target)
        sign = np.where(target[:, None] > np.arange(outputs.shape[1]), 1.0, -1.0)
        return float(np.logaddexp(0.0, -sign * outputs.astype(np.float64)).sum())


def _check(outputs: Any, target: Any) -> None:
    if len(outputs.shape) != 2 or tuple(target.shape) != (outputs.shape[0],):
        raise InputError(
            f"OrdinalRegression takes outputs (N, K - 1) and targets (N,), "
            f"got {tuple(outputs.shape)} and {tuple(target.shape)}"
        )
    if len(target) and not 0 <= int(target.min()) <= int(target.max()) <= outputs.shape[1]:
        raise DataError(
            f"a target is outside 0..{outputs.shape[1]}. Cure: classes from 0, one more than outputs"
        )
