"""Any number of labels for each example."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from laconic.tasks import checks, likelihoods
from laconic.tasks.predictive import Bernoulli
from laconic.tasks.registry import TaskEntry
from laconic.tasks.task import Metric, Sums, Task

if TYPE_CHECKING:
    from torch import Tensor

TAKES = "outputs (N, L) and targets (N, L) in {0, 1}"


@dataclass(frozen=True)
class MultiLabel(Task):
    r"""Any of L labels for each example, one logit each; metric: label error (Hamming loss) in %.

    .. math:: \sum_n\sum_l -y_{nl} \log\sigma(z_{nl}) - (1 - y_{nl}) \log\sigma(-z_{nl})

    Outputs are logits (N, L), targets (N, L): 0 or 1 of any type, or the probability of 1. Each label of
    each example is one term, unless its target is NaN or ``ignore``.

    Args:
        ignore: The target of labels that are not known (None: NaN alone).
        target: Where the labels stand in a batch (see :class:`laconic.tasks.Task`).
        inputs: Which keys of a batch are inputs.
        batch_axis: The axis of the inputs along which examples are stacked.

    >>> task = MultiLabel(ignore=-1)
    >>> logits, targets = np.array([[2.0, -1.0, 5.0]]), np.array([[1, 1, -1]])
    >>> task.value(task.measure(logits, targets)), task.terms(targets)
    (50.0, 2)
    """

    ignore: int | None = None

    one_tensor = True
    term = "label"
    takes = TAKES

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.whole_or_none("MultiLabel", "ignore", self.ignore)

    @property
    def metric(self) -> Metric:
        """Share of labels that are predicted wrongly (Hamming loss)."""
        return Metric("label error", "%")

    def terms(self, target: Any) -> int:
        """Number of labels that are known."""
        return int(self.counted(target).sum())

    def counted(self, target: Any) -> Any:
        """Which labels are known (see :meth:`laconic.tasks.Task.counted`): NaN alone differs from itself."""
        return (target == target) & checks.counted(target, self.ignore)

    def outputs_for(self, target: Any) -> tuple[int, ...]:
        """See :meth:`laconic.tasks.Task.outputs_for`."""
        return tuple(target.shape)

    def nll(self, outputs: Any, target: Any, **learnt: Tensor) -> Tensor:
        """Binary cross-entropy, summed over the known labels (see :meth:`laconic.tasks.Task.nll`)."""
        return likelihoods.bernoulli_nll(outputs, target, self._check(outputs, target))

    def divergence(self, outputs: Any, reference: Any, counted: Any = None, **learnt: Tensor) -> Tensor:
        """Divergence of the labels' probabilities, summed over the labels."""
        checks.check_pair("MultiLabel", outputs, reference, 2)
        return likelihoods.bernoulli_kl(outputs, reference, counted)

    def predicted(self, outputs: Any) -> int:
        """Number of labels."""
        return int(math.prod(outputs.shape))

    def predictive(self, **learnt: Tensor) -> Bernoulli:
        """Bernoulli by a logit (see :meth:`laconic.tasks.Task.predictive`)."""
        return Bernoulli()

    def measure(self, outputs: Any, target: Any) -> Sums:
        """Number of wrong labels, and of all that are known."""
        checks.arrays_only(outputs, target)
        counted = self._check(outputs, target)
        logits = outputs[counted]
        checks.refuse_nan(int(np.isnan(logits).sum()), len(logits), "labels", "label")
        return checks.wrong_and_counted(logits > 0, target[counted] > 0.5)

    def value(self, sums: Sums) -> float:
        """Label error in %."""
        return 100 * super().value(sums)

    def nats(self, outputs: Any, target: Any) -> float:
        """:meth:`nll` on NumPy arrays."""
        checks.arrays_only(outputs, target)
        return likelihoods.bernoulli_nats(outputs, target, self._check(outputs, target))

    def _check(self, outputs: Any, target: Any) -> Any:
        """Which entries are terms, if all fits."""
        checks.has_shape(outputs, target)
        wrong = ""
        if len(outputs.shape) != 2:
            wrong = f"outputs have {len(outputs.shape)} axes, not 2"
        elif len(target.shape) != 2:
            wrong = f"targets have {len(target.shape)} axes, not 2"
        else:
            for axis, name in enumerate(("examples", "labels")):
                sizes = outputs.shape[axis], target.shape[axis]
                if sizes[0] != sizes[1]:
                    wrong = wrong or f"axis {axis}, the {name}, is {sizes[0]} and {sizes[1]}"
        if wrong:
            raise checks.misfit("MultiLabel", TAKES, outputs, target, wrong)
        counted = self.counted(target)
        checks.check_unit_interval(target[counted], "target")
        return counted


TASK = TaskEntry("multi-label", MultiLabel)
