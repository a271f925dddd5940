"""One class for each token of a sequence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from laconic.tasks import checks, likelihoods
from laconic.tasks.predictive import Categorical
from laconic.tasks.registry import TaskEntry
from laconic.tasks.task import Metric, Sums, Task

if TYPE_CHECKING:
    from torch import Tensor

TAKES = "outputs (N, T, C) with C >= 2 and integer labels (N, T)"


@dataclass(frozen=True)
class SequenceLabelling(Task):
    r"""One of C classes for each token; metric: token error in %.

    .. math:: \sum_n\sum_t -\log \mathrm{softmax}(z_{nt})_{y_{nt}}

    Outputs are logits (N, T, C), classes last, labels class indices (N, T). Each token is one term, unless
    its label is ``ignore``.

    Args:
        ignore: The label of tokens that are no terms, as padding (None: no such label).
        target: Where the labels stand in a batch (see :class:`laconic.tasks.Task`).
        inputs: Which keys of a batch are inputs.
        batch_axis: The axis of the inputs along which examples are stacked.

    >>> task = SequenceLabelling()
    >>> logits, labels = np.zeros((1, 3, 2)), np.array([[0, 1, -100]])
    >>> task.value(task.measure(logits, labels)), task.terms(labels)
    (50.0, 2)
    """

    ignore: int | None = -100

    one_tensor = True
    term = "token"
    takes = TAKES

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.whole_or_none("SequenceLabelling", "ignore", self.ignore)

    @property
    def metric(self) -> Metric:
        """Share of tokens whose most likely class is wrong."""
        return Metric("token error", "%")

    def terms(self, target: Any) -> int:
        """Number of tokens that are not ignored."""
        return checks.count_labels(target, self.ignore)

    def counted(self, target: Any) -> Any:
        """Which tokens are not ignored (see :meth:`laconic.tasks.Task.counted`)."""
        return checks.counted(target, self.ignore)

    def outputs_for(self, target: Any) -> tuple[int, ...]:
        """See :meth:`laconic.tasks.Task.outputs_for`."""
        return (*target.shape, checks.least_classes(target, self.ignore))

    def nll(self, outputs: Any, target: Any, **learnt: Tensor) -> Tensor:
        """Cross-entropy, summed over the tokens (see :meth:`laconic.tasks.Task.nll`)."""
        check_tokens("SequenceLabelling", TAKES, outputs, target, self.ignore)
        return likelihoods.categorical_nll(outputs.flatten(0, 1), target.flatten(), self.ignore)

    def divergence(self, outputs: Any, reference: Any, counted: Any = None, **learnt: Tensor) -> Tensor:
        """Divergence of the two distributions over the classes, summed over the tokens."""
        checks.check_pair("SequenceLabelling", outputs, reference, 3)
        checks.check_classes("SequenceLabelling", outputs, -1)
        return likelihoods.categorical_kl(outputs, reference, -1, counted)

    def predicted(self, outputs: Any) -> int:
        """Number of tokens, padding included."""
        return int(math.prod(outputs.shape[:-1]))

    def predictive(self, **learnt: Tensor) -> Categorical:
        """Categorical over the classes (see :meth:`laconic.tasks.Task.predictive`)."""
        return Categorical(axis=2)

    def measure(self, outputs: Any, target: Any) -> Sums:
        """Number of wrong tokens, and of all."""
        checks.arrays_only(outputs, target)
        check_tokens("SequenceLabelling", TAKES, outputs, target, self.ignore)
        return checks.wrong_and_counted(*checks.predictions(outputs, target, 2, self.ignore, "tokens"))

    def value(self, sums: Sums) -> float:
        """Token error in %."""
        return 100 * super().value(sums)

    def nats(self, outputs: Any, target: Any) -> float:
        """:meth:`nll` on NumPy arrays."""
        checks.arrays_only(outputs, target)
        check_tokens("SequenceLabelling", TAKES, outputs, target, self.ignore)
        return token_nats(outputs, target, self.ignore)


def check_tokens(task: str, takes: str, outputs: Any, target: Any, ignore: int | None) -> None:
    """Refuse outputs that are not (N, T, C), and labels that are not (N, T) and below C."""
    checks.has_shape(outputs, target)
    out, to = tuple(outputs.shape), tuple(target.shape)
    wrong = ""
    if len(out) != 3:
        wrong = f"outputs have {len(out)} axes, not 3"
    elif len(to) != 2:
        wrong = f"labels have {len(to)} axes, not 2"
    elif out[0] != to[0]:
        wrong = f"axis 0, the sequences, is {out[0]} in the outputs and {to[0]} in the labels"
    elif out[1] != to[1]:
        turned = "; classes come last, as outputs.transpose(1, 2) has them" if out[2] == to[1] else ""
        wrong = f"axis 1, the tokens, is {out[1]} in the outputs and {to[1]} in the labels{turned}"
    elif out[2] < 2:
        wrong = f"axis 2 of the outputs, the classes, has size {out[2]}"
    elif checks.kind_of(target) != "int":
        wrong = f"labels must be integers, and are {checks.kind_of(target)}"
    if wrong:
        raise checks.misfit(task, takes, outputs, target, wrong)
    checks.check_labels(target, out[2], ignore)


def token_nats(outputs: Any, target: Any, ignore: int | None) -> float:
    """Negative log-likelihood of tokens in nats: NumPy arrays (N, T, C) and (N, T)."""
    flat: Any = outputs.reshape(-1, outputs.shape[-1])
    return likelihoods.categorical_nats(np.asarray(flat), target.reshape(-1), ignore)


TASK = TaskEntry("sequence-labelling", SequenceLabelling)
