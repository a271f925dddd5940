"""Two classes, and one logit for the second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from laconic.tasks import checks, likelihoods
from laconic.tasks.predictive import Bernoulli
from laconic.tasks.registry import TaskEntry
from laconic.tasks.task import Metric, Sums, Task

if TYPE_CHECKING:
    from torch import Tensor

TAKES = "outputs (N,) or (N, 1) and targets (N,) or (N, 1) in {0, 1}"


@dataclass(frozen=True)
class BinaryClassification(Task):
    r"""One of two classes for each example, from one logit; metric: error in %.

    .. math:: \sum_n -y_n \log\sigma(z_n) - (1 - y_n) \log\sigma(-z_n)

    Outputs are logits (N,) or (N, 1), targets (N,) or (N, 1): 0 or 1 of any type, or the probability of 1.
    Each example is one term. The prediction is 1 where the logit is above 0; the true class is 1 where the
    target is above one half.

    Args:
        target: Where the targets stand in a batch (see :class:`laconic.tasks.Task`).
        inputs: Which keys of a batch are inputs.
        batch_axis: The axis of the inputs along which examples are stacked.

    >>> task = BinaryClassification()
    >>> logits, targets = np.array([[2.0], [-1.0]]), np.array([1, 1])
    >>> task.value(task.measure(logits, targets)), round(task.nats(logits, targets), 4)
    (50.0, 1.4402)
    """

    one_tensor = True
    term = "example"
    takes = TAKES

    @property
    def metric(self) -> Metric:
        """Share of examples whose predicted class is wrong."""
        return Metric("error", "%")

    def outputs_for(self, target: Any) -> tuple[int, ...]:
        """See :meth:`laconic.tasks.Task.outputs_for`."""
        return tuple(target.shape)

    def nll(self, outputs: Any, target: Any, **learnt: Tensor) -> Tensor:
        """Binary cross-entropy, summed over the examples (see :meth:`laconic.tasks.Task.nll`)."""
        _check(outputs, target)
        return likelihoods.bernoulli_nll(outputs.reshape(-1), target.reshape(-1))

    def divergence(self, outputs: Any, reference: Any, counted: Any = None, **learnt: Tensor) -> Tensor:
        """Divergence of the probabilities, summed over the examples."""
        checks.check_pair("BinaryClassification", outputs, reference)
        return likelihoods.bernoulli_kl(outputs.reshape(-1), reference.reshape(-1))

    def predictive(self, **learnt: Tensor) -> Bernoulli:
        """Bernoulli by a logit (see :meth:`laconic.tasks.Task.predictive`)."""
        return Bernoulli()

    def measure(self, outputs: Any, target: Any) -> Sums:
        """Number of wrong examples, and of all."""
        checks.arrays_only(outputs, target)
        _check(outputs, target)
        logits = outputs.reshape(-1)
        checks.refuse_nan(int(np.isnan(logits).sum()), len(logits), "inputs")
        return checks.wrong_and_counted(logits > 0, target.reshape(-1) > 0.5)

    def value(self, sums: Sums) -> float:
        """Error in %."""
        return 100 * super().value(sums)

    def nats(self, outputs: Any, target: Any) -> float:
        """:meth:`nll` on NumPy arrays."""
        checks.arrays_only(outputs, target)
        _check(outputs, target)
        return likelihoods.bernoulli_nats(outputs.reshape(-1), target.reshape(-1))


def _check(outputs: Any, target: Any) -> None:
    checks.has_shape(outputs, target)
    wrong = ""
    for what, shape in (("outputs", tuple(outputs.shape)), ("targets", tuple(target.shape))):
        if len(shape) not in (1, 2):
            wrong = wrong or f"{what} have {len(shape)} axes, not 1 or 2"
        elif len(shape) == 2 and shape[1] != 1:
            wrong = wrong or f"axis 1 of the {what} has size {shape[1]}, not 1"
    if not wrong and outputs.shape[0] != target.shape[0]:
        wrong = (
            f"axis 0, the examples, is {outputs.shape[0]} in the outputs and {target.shape[0]} in the targets"
        )
    if wrong:
        raise checks.misfit("BinaryClassification", TAKES, outputs, target, wrong)
    checks.check_unit_interval(target, "target")


TASK = TaskEntry("binary", BinaryClassification)
