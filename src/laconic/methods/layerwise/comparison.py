"""How far a network's predictions are from the original's, on calibration inputs that decided nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from laconic.errors import DataError, InputError
from laconic.methods.layerwise.calibration import Calls, examples_of
from laconic.networks import call as run
from laconic.networks import inference, with_tensors
from laconic.tasks import Task

Divergence = Callable[[Any, Any], Tensor]
"""(outputs, reference outputs) to a scalar, summed over examples."""

MOST_BELOW = 1e-3
"""How far rounding may take a divergence of one's own below 0, an example."""


class Comparison:
    """How far a network's predictions are from the original's, on inputs that decided nothing.

    Args:
        original: The network that others are compared with.
        calls: The inputs.
        task: What the network is for: its divergence in nats per term.
        learnt: The likelihood's own parameters.
        divergence: Takes the place of the task's: per example.

    >>> from laconic.tasks import Classification
    >>> net, x = nn.Linear(2, 3), torch.eye(2)
    >>> Comparison(net, Calls((x,), (None,), 2), Classification()).of(net)
    0.0
    """

    def __init__(
        self,
        original: nn.Module,
        calls: Calls,
        task: Task,
        learnt: Mapping[str, Tensor] | None = None,
        divergence: Divergence | None = None,
    ) -> None:
        self._calls, self._task, self._learnt, self._own = calls, task, learnt or {}, divergence
        with inference():
            self._reference = [self.outputs_of(run(original, x)) for x in calls.inputs]
        for outputs, mask in zip(self._reference, calls.counted, strict=True):
            if not all(bool(torch.isfinite(y).all()) for y in _floats(outputs)):
                raise DataError(
                    "the original network gives NaN or infinity on the calibration batches. "
                    "Cure: look for values that were not scaled as in training"
                )
            itself = self._one(outputs, outputs, mask, 1.0)[
                0
            ]  # the task refuses outputs that it cannot compare
            if divergence is not None and math.isnan(itself):
                raise InputError(
                    "the divergence of the original's outputs from themselves is NaN. "
                    "Cure: look for log(0) or 0/0 in it"
                )

    @property
    def batch_axis(self) -> int:
        """The axis of the inputs along which examples are stacked."""
        return self._task.batch_axis

    @property
    def has_temperature(self) -> bool:
        """Whether outputs may be divided by a temperature: logits may, and the mean of a Gaussian."""
        return self._own is None and self._task.predictive(**self._learnt) is not None

    def of(self, module: nn.Module, most: int | None = None, *, temperature: float = 1.0) -> float:
        """Mean divergence of a network in evaluation mode, at least 0; infinite where it gives NaN.

        Args:
            module: The network.
            most: Calls that are compared, the first ones (None: all).
            temperature: See :meth:`loss`.

        Returns:
            Nats per term; with a divergence of one's own its mean over the examples.
        """
        nats, terms = 0.0, 0
        rows = list(zip(self._calls.inputs, self._reference, self._calls.counted, strict=True))[:most]
        with inference():
            for inputs, reference, mask in rows:
                outputs = self.outputs_of(run(module, inputs))
                found, count = self._one(outputs, reference, mask, temperature)
                nats, terms = nats + found, terms + count
        if not terms:
            raise DataError("no position of the calibration batches is a term. Cure: check their labels")
        value = nats / terms
        return math.inf if math.isnan(value) else max(0.0, value)

    def outputs_of(self, returned: Any) -> Any:
        """What is compared of what a network returned: everything, where the divergence is the user's own."""
        return returned if self._own is not None else self._task.prediction(returned)

    def loss(self, outputs: Any, reference: Any, mask: Any, temperature: float = 1.0) -> tuple[Tensor, int]:
        r"""The divergence of one call, differentiable, and its number of terms.

        .. math:: T^2 D(reference / T \| outputs / T)

        keeps its second derivative at equal outputs, up to how the distribution changes with T.

        Args:
            outputs: What a network returned.
            reference: What the original returned for the same inputs.
            mask: Which positions are terms (None: all).
            temperature: T, where :attr:`has_temperature`; a divergence of one's own has none.

        Returns:
            A scalar, summed over the terms, and their number (of examples, with a divergence of one's own).

        Raises:
            InputError: A divergence of one's own that returns no number.
        """
        if self._own is not None:
            found = self._own(outputs, reference)
            if not isinstance(found, Tensor) or found.numel() != 1:
                told = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"{found!r}"
                raise InputError(
                    "a divergence must return a tensor with one number, summed over the examples, "
                    f"got {told}. Cure: .sum()"
                )
            return found, examples_of(outputs, 0)
        terms = self._task.predicted(outputs) if mask is None else int(mask.sum())
        if temperature != 1.0:
            outputs, reference = (with_tensors(y, lambda x: x / temperature) for y in (outputs, reference))
        value = self._task.divergence(outputs, reference, mask, **self._learnt)
        return temperature**2 * value, terms

    def task_loss(self, returned: Any, target: Any) -> tuple[Tensor, int]:
        """The task's loss of one call against its labels, differentiable, and its number of terms.

        Args:
            returned: What a network returned.
            target: The labels.

        Returns:
            Nats, summed over the terms, and their number.
        """
        outputs = self._task.prediction(returned)
        return self._task.nll(outputs, target, **self._learnt), self._task.terms(target)

    def task_loss_of(self, module: nn.Module) -> float:
        """Mean loss of the task on the labelled inputs, in nats per term; infinite where it is NaN.

        Args:
            module: The network, in evaluation mode.

        Returns:
            The mean; 0 where no call has labels.
        """
        nats, terms = 0.0, 0
        with inference():
            for inputs, target in zip(self._calls.inputs, self._calls.targets, strict=False):
                found, count = self.task_loss(run(module, inputs), target)
                nats, terms = nats + float(found), terms + count
        return math.inf if math.isnan(nats) else nats / max(1, terms)

    def _one(self, outputs: Any, reference: Any, mask: Any, temperature: float) -> tuple[float, int]:
        found, terms = self.loss(outputs, reference, mask, temperature)
        if self._own is not None and float(found) < -MOST_BELOW * terms:
            raise InputError(
                f"a divergence must not be below 0, where outputs are equal, got {float(found):.3g}. "
                "Cure: a distance in place of a similarity"
            )
        return float(found), terms


def _floats(tree: Any) -> list[Tensor]:
    return [x for x in tree_leaves(tree) if isinstance(x, Tensor) and x.is_floating_point()]
