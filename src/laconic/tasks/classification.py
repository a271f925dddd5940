"""One class for each example."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from laconic.errors import DataError
from laconic.tasks import checks, likelihoods
from laconic.tasks.predictive import Categorical
from laconic.tasks.registry import TaskEntry
from laconic.tasks.task import Metric, Sums, Task

if TYPE_CHECKING:
    from torch import Tensor

TAKES = "outputs (N, C) with C >= 2 and labels (N,) integers or (N, C) class probabilities"


@dataclass(frozen=True)
class Classification(Task):
    r"""One of C classes for each example; metric: error in %.

    .. math:: \sum_n -\log \mathrm{softmax}(z_n)_{y_n}

    Outputs are logits (N, C) with C >= 2, labels class indices (N,), or class probabilities (N, C) as
    floating-point numbers that sum to 1. Each example is one term. Under class probabilities, the true class
    is the most likely.

    Args:
        ignore: The label of examples that are no terms (None: no such label).
        target: Where the labels stand in a batch (see :class:`laconic.tasks.Task`).
        inputs: Which keys of a batch are inputs.
        batch_axis: The axis of the inputs along which examples are stacked.

    >>> import numpy as np
    >>> task = Classification(ignore=-1)
    >>> logits, labels = np.array([[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]]), np.array([0, 0, -1])
    >>> task.value(task.measure(logits, labels)), round(task.nats(logits, labels), 4), task.terms(labels)
    (50.0, 1.4402, 2)
    """

    ignore: int | None = None

    one_tensor = True
    one_term_per_example = True
    term = "example"
    takes = TAKES

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.whole_or_none("Classification", "ignore", self.ignore)

    @property
    def metric(self) -> Metric:
        """Share of examples whose most likely class is wrong."""
        return Metric("error", "%")

    def terms(self, target: Any) -> int:
        """Number of examples that are not ignored."""
        return int(target.shape[0]) if target.ndim == 2 else checks.count_labels(target, self.ignore)

    def counted(self, target: Any) -> Any:
        """Which examples are not ignored (see :meth:`laconic.tasks.Task.counted`)."""
        return None if target.ndim == 2 else checks.counted(target, self.ignore)

    def outputs_for(self, target: Any) -> tuple[int, ...]:
        """See :meth:`laconic.tasks.Task.outputs_for`."""
        if target.ndim == 2:
            return tuple(target.shape)
        return (*target.shape[:1], checks.least_classes(target, self.ignore))

    def nll(self, outputs: Any, target: Any, **learnt: Tensor) -> Tensor:
        """Cross-entropy, summed over the examples (see :meth:`laconic.tasks.Task.nll`)."""
        self._check(outputs, target)
        if target.ndim == 2:
            return likelihoods.soft_categorical_nll(outputs, target)
        return likelihoods.categorical_nll(outputs, target, self.ignore)

    def divergence(self, outputs: Any, reference: Any, counted: Any = None, **learnt: Tensor) -> Tensor:
        """Divergence of the two distributions over the classes, summed over the examples."""
        checks.check_pair("Classification", outputs, reference, 2)
        checks.check_classes("Classification", outputs, 1)
        return likelihoods.categorical_kl(outputs, reference, 1, counted)

    def predictive(self, **learnt: Tensor) -> Categorical:
        """Categorical over the classes (see :meth:`laconic.tasks.Task.predictive`)."""
        return Categorical(axis=1)

    def measure(self, outputs: Any, target: Any) -> Sums:
        """Number of wrong examples, and of all."""
        checks.arrays_only(outputs, target)
        self._check(outputs, target)
        soft = target.ndim == 2
        labels = target.argmax(1) if soft else target
        ignore = None if soft else self.ignore
        return checks.wrong_and_counted(*checks.predictions(outputs, labels, 1, ignore, "inputs"))

    def value(self, sums: Sums) -> float:
        """Error in %."""
        return 100 * super().value(sums)

    def nats(self, outputs: Any, target: Any) -> float:
        """:meth:`nll` on NumPy arrays."""
        checks.arrays_only(outputs, target)
        self._check(outputs, target)
        if target.ndim == 2:
            return likelihoods.soft_categorical_nats(outputs, target)
        return likelihoods.categorical_nats(outputs, target, self.ignore)

    def _check(self, outputs: Any, target: Any) -> None:
        checks.has_shape(outputs, target)
        wrong = _what_is_wrong(outputs, target)
        if wrong:
            raise checks.misfit("Classification", TAKES, outputs, target, wrong)
        if target.ndim == 2:
            _check_probabilities(target)
        else:
            checks.check_labels(target, outputs.shape[1], self.ignore)


def _what_is_wrong(outputs: Any, target: Any) -> str:
    out, to, kind = tuple(outputs.shape), tuple(target.shape), checks.kind_of(target)
    if len(out) != 2:
        return f"outputs have {len(out)} axes, not 2"
    if out[1] < 2:
        return f"axis 1 of the outputs, the classes, has size {out[1]}"
    if to[:1] != out[:1]:
        return (
            f"axis 0, the examples, is {out[0]} in the outputs and {to[0] if to else 'none'} in the targets"
        )
    if len(to) == 1:
        return "" if kind == "int" else f"labels on axis 0 alone must be integers, and are {kind}"
    if to != out:
        return "the targets' axis 1 is not the outputs' classes"
    return "" if kind == "float" else f"class probabilities must be floating-point numbers, and are {kind}"


def _check_probabilities(target: Any) -> None:
    checks.check_unit_interval(target, "class probability")
    if len(target):
        sums = target.sum(1)
        worst = float(sums[int(abs(sums - 1).argmax())])
        if abs(worst - 1) > 0.01:  # 16-bit probabilities miss 1 by a few thousandths
            raise DataError(
                f"class probabilities of an example sum to {worst:g}, not 1. "
                "Cure: normalise them, or MultiLabel where several labels hold at once"
            )


TASK = TaskEntry("classification", Classification)
