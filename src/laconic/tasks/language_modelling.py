"""The next token of a sequence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from laconic.errors import DataError, InputError
from laconic.tasks import checks, likelihoods
from laconic.tasks.batches import Batch
from laconic.tasks.predictive import Categorical
from laconic.tasks.registry import TaskEntry
from laconic.tasks.sequence_labelling import check_tokens, token_nats
from laconic.tasks.task import Metric, Sums, Task

if TYPE_CHECKING:
    from torch import Tensor

TAKES = "outputs (N, T, V) and next tokens (N, T)"


@dataclass(frozen=True)
class LanguageModelling(Task):
    r"""The next token, one of V, at each place of a sequence; metric: perplexity.

    .. math:: \sum_n\sum_t -\log \mathrm{softmax}(z_{nt})_{x_{n,t+1}}, \quad perplexity = e^{nll / terms}

    A batch is (inputs, next tokens), a dictionary of them, or one tensor of tokens (N, T + 1): its first T
    are the inputs, its last T the targets. Outputs are logits (N, T, V). Each token is one term, unless it
    is ``ignore``.

    Args:
        ignore: The token that is no term, as padding (None: no such token).
        target: Where the next tokens stand in a batch (see :class:`laconic.tasks.Task`).
        inputs: Which keys of a batch are inputs.
        batch_axis: The axis of the inputs along which examples are stacked.

    >>> task = LanguageModelling()
    >>> task.split(np.array([[5, 6, 7]]))
    Batch(inputs=array([[5, 6]]), target=array([[6, 7]]))
    >>> round(task.value(task.measure(np.zeros((1, 2, 10)), np.array([[6, 7]]))), 6)
    10.0
    """

    ignore: int | None = -100

    one_tensor = True
    term = "token"
    takes = TAKES

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.whole_or_none("LanguageModelling", "ignore", self.ignore)

    @property
    def metric(self) -> Metric:
        """Exponential of the nats per token."""
        return Metric("perplexity", tolerance=0.01, relative=True)

    def split(self, batch: Any) -> Batch:
        """Inputs and next tokens of a batch.

        Raises:
            DataError: A batch that is no tensor, tuple, list or dictionary, that lacks a key, or whose
                targets are its inputs, not the tokens after them.
            InputError: One tensor that is not (N, T + 1) with T >= 1.
        """
        if not hasattr(batch, "shape"):
            parts = super().split(batch)
            _refuse_unshifted(parts, self.ignore)
            return parts
        if len(batch.shape) != 2 or batch.shape[1] < 2:
            raise InputError(
                f"LanguageModelling: a batch of tokens is (N, T + 1) with T >= 1, got {tuple(batch.shape)}. "
                "Cure: sequences of two tokens or more, stacked"
            )
        return Batch(batch[:, :-1], batch[:, 1:])

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
        check_tokens("LanguageModelling", TAKES, outputs, target, self.ignore)
        return likelihoods.categorical_nll(outputs.flatten(0, 1), target.flatten(), self.ignore)

    def divergence(self, outputs: Any, reference: Any, counted: Any = None, **learnt: Tensor) -> Tensor:
        """Divergence of the two distributions over the next token, summed over the tokens."""
        checks.check_pair("LanguageModelling", outputs, reference, 3)
        checks.check_classes("LanguageModelling", outputs, -1)
        return likelihoods.categorical_kl(outputs, reference, -1, counted)

    def predicted(self, outputs: Any) -> int:
        """Number of tokens, padding included."""
        return int(math.prod(outputs.shape[:-1]))

    def predictive(self, **learnt: Tensor) -> Categorical:
        """Categorical over the classes (see :meth:`laconic.tasks.Task.predictive`)."""
        return Categorical(axis=2)

    def measure(self, outputs: Any, target: Any) -> Sums:
        """Nats of all tokens, and their number."""
        checks.arrays_only(outputs, target)
        check_tokens("LanguageModelling", TAKES, outputs, target, self.ignore)
        counted = checks.counted(target, self.ignore)
        rows = outputs[counted]
        checks.refuse_nan(int(np.isnan(rows).any(-1).sum()), len(rows), "tokens", "probability")
        return np.array([likelihoods.categorical_nats(rows, target[counted]), len(rows)])

    def value(self, sums: Sums) -> float:
        """Perplexity; infinite where a token was given no probability."""
        with np.errstate(over="ignore"):
            return float(np.exp(super().value(sums)))

    def nats(self, outputs: Any, target: Any) -> float:
        """:meth:`nll` on NumPy arrays."""
        checks.arrays_only(outputs, target)
        check_tokens("LanguageModelling", TAKES, outputs, target, self.ignore)
        return token_nats(outputs, target, self.ignore)


def _refuse_unshifted(batch: Batch, ignore: int | None) -> None:
    """Refuse targets that are the inputs themselves: a network could copy them, at a perplexity of 1."""
    inputs, target = batch
    shape = getattr(target, "shape", None)
    parts = (
        inputs.values() if isinstance(inputs, Mapping) else inputs if isinstance(inputs, tuple) else (inputs,)
    )
    for tokens in parts:
        if shape is None or getattr(tokens, "shape", None) != shape:
            continue
        kept = checks.counted(target, ignore)
        told = target[kept]
        alike = math.prod(told.shape) > 0 and bool((tokens[kept] == told).all())
        if alike and bool((told != told[0]).any()):  # a text of one token is its own continuation
            raise DataError(
                "LanguageModelling: the targets of a batch are its inputs, not the tokens that follow them. "
                "Cure: one tensor of tokens (N, T + 1) a batch, which is split here"
            )


TASK = TaskEntry("language-modelling", LanguageModelling)
