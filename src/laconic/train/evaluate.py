"""A network's score on a set of batches: the task's metric, its negative log-likelihood, and how far its
predictions are from another network's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from laconic.errors import DataError, ModelError, at
from laconic.networks import to_device
from laconic.networks.layout import run
from laconic.networks.modes import evaluating
from laconic.tasks import Batch, Classification, Score, Task
from laconic.tasks.batches import as_arrays

Batches = Iterable[Any]


def evaluate(
    module: nn.Module,
    batches: Batches,
    task: Task = Classification(),  # noqa: B008 - frozen
    learnt: Mapping[str, Tensor] | None = None,
) -> Score:
    """The metric and the mean negative log-likelihood (nats per term) in evaluation mode, noise off.

    Each layer's training flag is put back.

    Args:
        module: A network, plain or prepared.
        batches: Batches as the task splits them.
        task: The task.
        learnt: The likelihood's own parameters by name (see ``Task.learnt``); where the task has some and
            they are not given, the score's ``nll`` is NaN.

    Returns:
        The score.

    Raises:
        DataError: No batch, labels that are all ignored, or labels that the network cannot have.
        InputError: Outputs or targets of a shape that the task does not take.
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    own = learnt or {}
    known = bool(own) or not task.learnt(None)
    sums: Any = None
    nats, terms = 0.0, 0
    with evaluating(module), torch.inference_mode():
        for given in batches:
            batch = Batch(*to_device(task.split(given), device))
            outputs = task.prediction(_outputs(module, batch.inputs))
            nats += float(task.nll(outputs, batch.target, **own)) if known else math.nan
            terms += task.terms(batch.target)
            found = task.measure(*as_arrays((outputs, batch.target)))
            sums = found if sums is None else task.add(sums, found)
    if sums is None:
        raise DataError("evaluate: the loader gave no batch. Cure: check its data set and drop_last")
    if not terms:
        raise DataError(
            "evaluate: every label is ignored, so there is nothing to score. Cure: check the labels"
        )
    return Score(metric=task.value(sums), nll=nats / terms, terms=terms)


def score_original(model: nn.Module, validate: Batches, task: Task, learnt: Mapping[str, Tensor]) -> Score:
    """The uncompressed network on the validation split; ModelError if its score is no number."""
    with at("compress: the original network on the validation split"):
        score = evaluate(model, validate, task, learnt)
        if not (math.isfinite(score.nll) and math.isfinite(score.metric)):
            raise ModelError(
                f"its loss is {score.nll} and its {task.metric.name} {score.metric} before compression has "
                "begun. Cure: "
                "look for NaN or infinite values in its buffers (running statistics of batch norms) and in "
                "the inputs, "
                "or for a loss or metric that overflows"
            )
    return score


def divergence(
    module: nn.Module,
    reference: nn.Module,
    batches: Batches,
    task: Task = Classification(),  # noqa: B008 - frozen
    learnt: Mapping[str, Tensor] | None = None,
) -> float:
    r"""How far a network's predictions are from another's on the same inputs, noise off.

    .. math:: \frac1N \sum_n KL\big(p(y_n | x_n, reference) \,\|\, p(y_n | x_n, module)\big)

    Labels say only which positions are terms of the likelihood. The estimate has far less noise than the
    difference of two errors: an error changes with the few examples whose answer flips, this with all.

    Args:
        module: A network, plain or prepared.
        reference: The network that it is compared with.
        batches: Batches as the task splits them.
        task: The task.
        learnt: The likelihood's own parameters by name (see ``Task.learnt``).

    Returns:
        Nats per likelihood term; infinite where a prediction is no number.

    Raises:
        DataError: No batch, or labels that are all ignored.
        InputError: A task whose predictions are no distribution (see ``Task.divergence``).

    >>> net, batch = nn.Linear(2, 3), (torch.eye(2), torch.tensor([0, 1]))
    >>> divergence(net, net, [batch])
    0.0
    """
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    nats, terms = 0.0, 0
    with evaluating(module), evaluating(reference), torch.inference_mode():
        for given in batches:
            batch = Batch(*to_device(task.split(given), device))
            outputs, theirs = (task.prediction(_outputs(m, batch.inputs)) for m in (module, reference))
            nats += float(task.divergence(outputs, theirs, task.counted(batch.target), **(learnt or {})))
            terms += task.terms(batch.target)
    if not terms:
        raise DataError("divergence: no batch has a term of the likelihood. Cure: check the loader's labels")
    return math.inf if math.isnan(nats) else max(0.0, nats / terms)


def _outputs(module: nn.Module, inputs: Any) -> Any:
    try:
        return run(module, inputs)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise DataError(
            f"evaluate: the network does not take a batch of {described(inputs)}: "
            f"{' '.join(str(error).split())}. "
            "Cure: batches like those that it is trained on"
        ) from error


def described(inputs: Any) -> str:
    """The shapes and types of the tensors in a batch, in words.

    >>> described({"a": torch.ones(2, 3)})
    'a: shape (2, 3), float32'
    """
    if isinstance(inputs, Tensor):
        return f"shape {tuple(inputs.shape)}, {str(inputs.dtype).removeprefix('torch.')}"
    if isinstance(inputs, Mapping):
        return "; ".join(f"{key}: {described(value)}" for key, value in inputs.items())
    if isinstance(inputs, tuple | list):
        return "; ".join(described(value) for value in inputs)
    return type(inputs).__name__
