"""One class for each pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from laconic.errors import DataError, InputError
from laconic.tasks import checks, likelihoods
from laconic.tasks.predictive import Categorical
from laconic.tasks.registry import TaskEntry
from laconic.tasks.task import Metric, Sums, Task

if TYPE_CHECKING:
    from torch import Tensor

TAKES = "outputs (N, C, H, W...) and integer labels (N, H, W...)"
MEAN_IOU, ACCURACY = "mean_iou", "accuracy"


@dataclass(frozen=True)
class Segmentation(Task):
    r"""One of C classes for each pixel; metric: mean intersection over union, or pixel accuracy, in %.

    .. math:: \sum_i -\log \mathrm{softmax}(z_i)_{y_i}, \quad IoU_c = \frac{TP_c}{TP_c + FP_c + FN_c}

    Outputs are logits (N, C, H, W...), labels class indices (N, H, W...). Each pixel is one term, unless its
    label is ``ignore``. The mean is over the classes that stand in the labels or in the predictions of the
    whole set; a class whose index is ``ignore`` is not among them.

    Args:
        ignore: The label of pixels that are no terms (None: no such label).
        classes: The number of classes that axis 1 of the outputs must have (None: any).
        metric_name: "mean_iou" or "accuracy".
        target: Where the labels stand in a batch (see :class:`laconic.tasks.Task`).
        inputs: Which keys of a batch are inputs.
        batch_axis: The axis of the inputs along which examples are stacked.

    Raises:
        InputError: Fewer than two classes, or another metric's name.

    >>> task = Segmentation()
    >>> logits = np.array([[[[2.0, 2.0, 0.0, 0.0]], [[0.0, 0.0, 2.0, 0.0]]]])  # predicts 0, 0, 1, 0
    >>> task.value(task.measure(logits, np.array([[[0, 1, 1, -100]]])))
    50.0

    Source: Everingham et al., The Pascal Visual Object Classes Challenge (2015), section 4.1.3: intersection
    over union from one confusion matrix of all pixels of the set.
    """

    ignore: int | None = -100
    classes: int | None = None
    metric_name: Literal["mean_iou", "accuracy"] = "mean_iou"

    one_tensor = True
    term = "pixel"
    takes = TAKES

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.whole_or_none("Segmentation", "ignore", self.ignore)
        checks.whole_or_none("Segmentation", "classes", self.classes, least=2)
        if self.metric_name not in (MEAN_IOU, ACCURACY):
            raise InputError(
                f"metric_name must be 'mean_iou' or 'accuracy', got {self.metric_name!r}"
                ". Cure: metric_name='mean_iou'"
            )

    @property
    def metric(self) -> Metric:
        """Mean intersection over union, or the share of pixels that are right."""
        name = "mean IoU" if self.metric_name == MEAN_IOU else "pixel accuracy"
        return Metric(name, "%", higher_is_better=True)

    def terms(self, target: Any) -> int:
        """Number of pixels that are not ignored."""
        return checks.count_labels(target, self.ignore)

    def counted(self, target: Any) -> Any:
        """Which pixels are not ignored (see :meth:`laconic.tasks.Task.counted`)."""
        return checks.counted(target, self.ignore)

    def outputs_for(self, target: Any) -> tuple[int, ...]:
        """See :meth:`laconic.tasks.Task.outputs_for`."""
        classes = self.classes or checks.least_classes(target, self.ignore)
        return (*target.shape[:1], classes, *target.shape[1:])

    def nll(self, outputs: Any, target: Any, **learnt: Tensor) -> Tensor:
        """Cross-entropy, summed over the pixels (see :meth:`laconic.tasks.Task.nll`)."""
        self._check(outputs, target)
        return likelihoods.categorical_nll(outputs, target, self.ignore)

    def divergence(self, outputs: Any, reference: Any, counted: Any = None, **learnt: Tensor) -> Tensor:
        """Divergence of the two distributions over the classes, summed over the pixels."""
        checks.check_pair("Segmentation", outputs, reference, 3)
        checks.check_classes("Segmentation", outputs, 1)
        return likelihoods.categorical_kl(outputs, reference, 1, counted)

    def predicted(self, outputs: Any) -> int:
        """Number of pixels."""
        return int(math.prod(outputs.shape) // outputs.shape[1])

    def predictive(self, **learnt: Tensor) -> Categorical:
        """Categorical over the classes (see :meth:`laconic.tasks.Task.predictive`)."""
        return Categorical(axis=1)

    def measure(self, outputs: Any, target: Any) -> Sums:
        """(C, C): the confusion matrix, labels by predictions."""
        checks.arrays_only(outputs, target)
        self._check(outputs, target)
        guess, truth = checks.predictions(outputs, target, 1, self.ignore, "pixels")
        classes = outputs.shape[1]
        counts = np.bincount(truth * classes + guess, minlength=classes * classes)
        return counts.reshape(classes, classes).astype(np.float64)

    def value(self, sums: Sums) -> float:
        """Mean IoU or pixel accuracy, in %."""
        right = sums.diagonal()
        if self.metric_name == ACCURACY:
            return 100 * super().value(np.array([right.sum(), sums.sum()]))
        union = sums.sum(0) + sums.sum(1) - right
        present = union > 0
        if self.ignore is not None and 0 <= self.ignore < len(present):
            present[self.ignore] = False
        if not present.any():
            raise DataError(
                "there is nothing to measure: the set is empty, or all of its pixels are ignored. Cure: a "
                "set with pixels that are not ignored"
            )
        return float(100 * (right[present] / union[present]).mean())

    def nats(self, outputs: Any, target: Any) -> float:
        """:meth:`nll` on NumPy arrays."""
        checks.arrays_only(outputs, target)
        self._check(outputs, target)
        return likelihoods.categorical_nats(outputs, target, self.ignore)

    def _check(self, outputs: Any, target: Any) -> None:
        checks.has_shape(outputs, target)
        wrong = self._what_is_wrong(tuple(outputs.shape), tuple(target.shape))
        if not wrong and checks.kind_of(target) != "int":
            wrong = f"labels must be integers, and are {checks.kind_of(target)}"
        if wrong:
            raise checks.misfit("Segmentation", TAKES, outputs, target, wrong)
        checks.check_labels(target, outputs.shape[1], self.ignore)

    def _what_is_wrong(self, out: tuple[int, ...], to: tuple[int, ...]) -> str:
        if len(out) < 3:
            return f"outputs have {len(out)} axes, not 3 or more"
        if out[1] < 2:
            return f"axis 1 of the outputs, the classes, has size {out[1]}"
        if self.classes not in (None, out[1]):
            return f"axis 1 of the outputs has size {out[1]}, and classes={self.classes}"
        if len(to) != len(out) - 1:
            return f"labels have {len(to)} axes, not {len(out) - 1}"
        for axis, (a, b) in enumerate(zip((out[0], *out[2:]), to, strict=True)):
            if a != b:
                return f"axis {axis} of the labels has size {b}, and the outputs have {a} there"
        return ""


TASK = TaskEntry("segmentation", Segmentation)
