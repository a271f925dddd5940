r"""The interface of tasks: inputs and target of a batch, negative log-likelihood, number of terms, metric.

The likelihood of a data set is a product over *terms*: one for each example of a classifier, one for each
pixel of a segmentation, one for each token of a language model. Ignored labels are no terms. The description
length that all methods minimise is

.. math:: \frac1N \Big( \sum_{n=1}^{N} -\log p(y_n | x_n, w) + KL(q \| p) \Big)

in nats per term, so N, the ``data_size``, counts terms and nothing else.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from laconic.errors import DataError, InputError
from laconic.tasks.batches import Batch, Target, split
from laconic.tasks.outputs import main_tensor
from laconic.text import value_text

if TYPE_CHECKING:
    from torch import Tensor

    from laconic.tasks.predictive import Predictive

Sums = npt.NDArray[np.float64]

__all__ = ["Batch", "Metric", "Score", "Sums", "Target", "Task"]


@dataclass(frozen=True)
class Metric:
    """The measure of a network's quality, with its unit and its direction.

    Args:
        name: What reports call it, as "error" or "mean IoU".
        unit: Its unit, as "%"; empty for a number without one.
        higher_is_better: Whether a larger value is better.
        tolerance: The loss that a method accepts where nobody set a target, in the unit.
        relative: Whether ``tolerance`` is a share of the metric's own size instead.

    >>> error = Metric("error", "%")
    >>> error.show(0.8), round(error.drop(0.8, 1.1), 9), Metric("accuracy", "%", True).drop(90.0, 88.0)
    ('0.80 %', 0.3, 2.0)
    """

    name: str
    unit: str = ""
    higher_is_better: bool = False
    tolerance: float = 0.1
    relative: bool = False

    def __post_init__(self) -> None:
        if not self.name:
            raise InputError(f"a metric needs a name, got {self.name!r}. Cure: name='error'")
        if not (math.isfinite(self.tolerance) and self.tolerance >= 0):
            raise InputError(
                f"metric {self.name!r}: tolerance must be finite and >= 0, got {self.tolerance}"
                ". Cure: tolerance=0"
            )

    def drop(self, before: float, after: float) -> float:
        """How much worse ``after`` is than ``before``, in the metric's unit; negative where it is better."""
        return before - after if self.higher_is_better else after - before

    def allowance(self, before: float) -> float:
        """The drop from ``before`` that is accepted where nobody set a target, in the metric's unit."""
        return self.tolerance * abs(before) if self.relative else self.tolerance

    def show(self, value: float) -> str:
        """The value as reports print it: two decimals of a percentage, four digits of any other number."""
        return value_text(value, self.unit)


@dataclass(frozen=True)
class Score:
    """How good a network is on a set.

    Args:
        metric: The task's metric in its unit.
        nll: Negative log-likelihood, nats per term (NaN where it was not computed).
        terms: Number of likelihood terms that ``nll`` is over.

    >>> Score(metric=0.8, nll=0.02, terms=10_000).metric
    0.8
    """

    metric: float
    nll: float
    terms: int


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """Base class of tasks; a task of a user's own is a frozen dataclass with this base.

    A task defines how a batch is split, how its terms are counted, their likelihood, and a metric.
    ``measure``, ``value`` and ``nats`` work on NumPy arrays, so that a file can be scored without torch.

    Args:
        target: Where the target stands in a batch: a key of a dictionary, or a position of a tuple (None: the
            last).
        inputs: The keys of a dictionary that are the network's inputs (None: all but the target).
        batch_axis: The axis of the inputs along which examples are stacked (1 for a recurrent network fed
            time first).

    Raises:
        InputError: ``target`` is neither a key nor a position, or ``inputs`` are no keys.

    >>> from laconic.tasks import Classification
    >>> task = Classification()
    >>> sums = task.measure(np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([0, 0]))
    >>> task.metric.name, task.value(sums)
    ('error', 50.0)
    """

    target: Target = None
    inputs: tuple[str, ...] | None = None
    batch_axis: int = 0

    one_term_per_example: ClassVar[bool] = False
    """Whether every example is exactly one term, so that the length of a data set counts them."""
    one_tensor: ClassVar[bool] = False
    """Whether outputs are one tensor; else they are whatever the network returns."""
    takes: ClassVar[str] = ""
    """The shapes of outputs and targets that the task takes, as messages say them."""
    term: ClassVar[str] = "term"
    """What one likelihood term is, in the singular, as reports call it: "example", "pixel", "token"."""

    def __post_init__(self) -> None:
        if isinstance(self.target, bool) or not isinstance(self.target, str | int | None):
            raise InputError(
                f"target must be a key, a position or None, got {self.target!r}. Cure: target=None"
            )
        if self.inputs is None:
            return
        if isinstance(self.inputs, str) or not all(isinstance(key, str) for key in self.inputs):
            raise InputError(f"inputs must be a tuple of keys, got {self.inputs!r}. Cure: inputs=('image',)")
        object.__setattr__(self, "inputs", tuple(self.inputs))  # a list, as JSON has it, has no hash

    @property
    @abstractmethod
    def metric(self) -> Metric:
        """The metric of targets, reports and records."""

    def split(self, batch: Any) -> Batch:
        """The network's inputs and the target of a batch.

        Raises:
            DataError: A batch that is no tensor, tuple, list or dictionary, or that lacks a key.
        """
        return split(batch, self.target, self.inputs)

    def outputs_for(self, target: Any) -> tuple[int, ...] | None:
        """The shape of outputs that would fit a target: so it is checked before there is a network.

        Args:
            target: The target of a batch; one that fits no outputs may give any shape.

        Returns:
            The shape; None (the default) where the target alone does not say.
        """
        return None

    def prediction(self, returned: Any) -> Any:
        """The outputs that the task reads, of what a network returned.

        Here, where ``one_tensor`` says so, the tensor that matters of a dictionary or a dataclass (see
        :func:`laconic.tasks.outputs.main_tensor`), else everything.

        Args:
            returned: What the network returned.

        Returns:
            The outputs, as :meth:`nll` and the others take them.
        """
        return main_tensor(returned) if self.one_tensor else returned

    @abstractmethod
    def nll(self, outputs: Any, target: Any, **learnt: Tensor) -> Tensor:
        """Negative log-likelihood of a batch: a differentiable scalar, the sum over its terms, in nats.

        Args:
            outputs: What the network returned.
            target: The batch's target.
            learnt: The parameters of the likelihood (see :meth:`learnt`), by name.

        Raises:
            DataError: Values that the likelihood cannot have.
            InputError: Shapes that do not fit; the error names the axis.
        """

    def terms(self, target: Any) -> int:
        """Number of likelihood terms of a batch, 0 where all are ignored: here, the number of entries."""
        return int(math.prod(target.shape))

    def counted(self, target: Any) -> Any:
        """Which positions of a target are likelihood terms; here, all of them.

        A method that compares outputs position by position, as distillation does, leaves the others out.

        Args:
            target: The target of a batch.

        Returns:
            Booleans of the target's shape, True for a term; None where every position is one.
        """
        return None

    def divergence(self, outputs: Any, reference: Any, counted: Any = None, **learnt: Tensor) -> Tensor:
        r"""How far a prediction is from another network's for the same inputs: needs no labels.

        .. math:: \sum_n KL\big(p(y_n | reference) \,\|\, p(y_n | outputs)\big)

        Args:
            outputs: What the network returned.
            reference: What the network that it is compared with returned.
            counted: Which positions are terms (see :meth:`counted`; None: all).
            learnt: The parameters of the likelihood (see :meth:`learnt`), by name.

        Returns:
            A differentiable scalar, summed over the terms, in nats.

        Raises:
            InputError: Shapes that do not fit, or a task whose predictions are no distribution.
        """
        raise InputError(
            f"{type(self).__name__} does not say how far two predictions are apart. Cure: a task of "
            "laconic.tasks, or a method divergence(outputs, reference) of the task"
        )

    def predicted(self, outputs: Any) -> int:
        """Number of terms that outputs predict, where no target says which of them count.

        Here, the length of the outputs' first axis.

        Args:
            outputs: What the network returned.

        Returns:
            The number.
        """
        shape: tuple[int, ...] = tuple(getattr(outputs, "shape", ()))
        return int(shape[0]) if shape else 1

    @abstractmethod
    def measure(self, outputs: Any, target: Any) -> Sums:
        """Statistics of the metric on NumPy arrays; :meth:`add` joins those of two batches.

        Raises:
            DataError: Values that the metric cannot be computed from.
            InputError: Shapes that do not fit; the error names the axis.
        """

    def add(self, sums: Sums, more: Sums) -> Sums:
        """The statistics of two sets of terms as one: here, their sum.

        Args:
            sums: What :meth:`measure` or this method returned.
            more: The same for other terms.
        """
        return sums + more

    def value(self, sums: Sums) -> float:
        """The metric, from the statistics of a set: here, the first entry divided by the second.

        Raises:
            DataError: No term was measured.
        """
        if sums[1] == 0:
            raise DataError(
                "there is nothing to measure: the set is empty, or all of its labels are ignored. Cure: a "
                "set with labels that are not ignored"
            )
        return float(sums[0] / sums[1])

    def nats(self, outputs: Any, target: Any) -> float | None:
        """:meth:`nll` on NumPy arrays, without torch; None where it needs what no file holds."""
        return None

    def check_scale(self, outputs: Any, target: Any) -> None:  # noqa: B027 - most likelihoods are in nats by construction
        """Raises ScaleError if :meth:`nll` cannot be in nats per term, so that no KL may be weighed against
        it.
        """

    def learnt(self, target: Any, outputs: Any = None) -> Mapping[str, Tensor]:
        """Initial values of the likelihood's own parameters, which are trained with the network.

        By default there are none.

        Args:
            target: The target of a training batch; None where none is known.
            outputs: What the network returns for that batch before it is trained; None where it is not known.
        """
        return {}

    def fixed(self, learnt: Mapping[str, Tensor]) -> Task:
        """The same task with the likelihood's own parameters given; itself where it has none.

        Args:
            learnt: The parameters by name (see :meth:`learnt`).
        """
        return self

    def predictive(self, **learnt: Tensor) -> Predictive | None:
        """The distribution of targets given outputs, whose curvature needs no target; None where unknown.

        Args:
            learnt: The parameters of the likelihood (see :meth:`learnt`), by name.
        """
        return None

    def check(self, outputs: Any, target: Any) -> None:
        """Try the likelihood on a training batch, so that a mistake shows before time is lost.

        Args:
            outputs: What the network returned for the batch.
            target: The batch's target.

        Raises:
            DataError: Values that the likelihood cannot have, or a likelihood that is not finite.
            InputError: Shapes that do not fit, or a likelihood that is not one number.
            ScaleError: A loss that cannot be nats per term.
        """
        nll = self.nll(outputs, target, **self.learnt(target, outputs))
        name = type(self).__name__
        if not hasattr(nll, "backward"):
            raise InputError(
                f"{name}.nll returned a {type(nll).__name__}, not a tensor. Cure: compute it with torch, "
                "from the outputs"
            )
        if nll.numel() != 1:
            raise InputError(
                f"{name}.nll returned shape {tuple(nll.shape)}, not one number. Cure: sum it over the terms"
            )
        if not math.isfinite(float(nll)):
            raise DataError(
                f"{name}.nll of the first batch is {float(nll)}. "
                "Cure: look for NaN or infinite values in the inputs, the targets and the network's weights"
            )
