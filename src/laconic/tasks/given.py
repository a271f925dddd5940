"""Arguments of the public functions as the library works with them: a task or a loss function, batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sized
from typing import Any

import numpy as np

from laconic.errors import DataError, InputError
from laconic.tasks.plain_loss import PlainLoss
from laconic.tasks.task import Task

_MOST_OUTPUTS = 2**20

Loss = Callable[[Any, Any], Any]
"""A loss function: (outputs, target) to a scalar tensor, the mean over the batch."""


def as_task(given: Task | Loss) -> Task:
    """A task as it is; a plain loss function as a task whose metric is the loss itself.

    Args:
        given: A task, or a function (outputs, target) that returns the mean over a batch.

    Returns:
        The task.

    Raises:
        InputError: Anything else.

    >>> from laconic.tasks import Classification
    >>> as_task(Classification()) == Classification(), as_task(lambda outputs, target: 0.0).metric.name
    (True, 'loss')
    """
    if isinstance(given, Task):
        return given
    if isinstance(given, type) and issubclass(given, Task):
        raise InputError(f"task: {given.__name__} is a class. Cure: an instance, as {given.__name__}()")
    if isinstance(given, type):
        raise InputError(f"task: {given.__name__} is a class. Cure: an instance, as {given.__name__}()")
    if callable(given):
        return PlainLoss(given)
    raise InputError(
        f"task: {given!r} is no task. Cure: one of laconic.tasks, as Classification(), or a loss function"
    )


def check_target(task: Task, target: Any) -> None:
    """Refuse a target that fits no outputs, before there is a network that returns some.

    Args:
        task: The task.
        target: The target of a batch: a torch tensor.

    Raises:
        InputError: Its shape or type is one that the task does not take.
        DataError: It has values that the task cannot have.

    >>> import torch
    >>> from laconic.tasks import Classification
    >>> check_target(Classification(), torch.zeros(4, 3, dtype=torch.int64))
    Traceback (most recent call last):
    ...
    laconic.errors.InputError: no network's outputs fit targets (4, 3) int64 under Classification. Cure:
    outputs (N, C) with C >= 2 and labels (N,) integers or (N, C) class probabilities, or another task
    """
    values = np.asarray(target.detach().cpu())
    shape = task.outputs_for(values)
    if shape is None:
        return
    of_one = max(1, math.prod(shape[1:]))
    few = slice(max(2, _MOST_OUTPUTS // of_one))  # a text's outputs are thousands of times as large as it is
    try:
        values = values[few] if values.ndim else values
        task.measure(np.zeros((min(len(values), shape[0]), *shape[1:]) if shape else (), np.float32), values)
    except InputError as error:
        kind = f"{tuple(target.shape)} {str(target.dtype).removeprefix('torch.')}"
        raise InputError(
            f"no network's outputs fit targets {kind} under {type(task).__name__}. "
            f"Cure: {task.takes}, or another task"
        ) from error


def length_of(loader: Iterable[Any]) -> int | None:
    """Number of batches in an epoch.

    Args:
        loader: Training batches.

    Returns:
        The number; None where the loader does not know it, as a DataLoader over an ``IterableDataset``.

    >>> length_of([1, 2]), length_of(iter([1, 2]))
    (2, None)
    """
    try:
        return len(loader) if isinstance(loader, Sized) else None
    except TypeError:  # a DataLoader has the method, but asks its data set, which may have none
        return None


def count_batches(loader: Iterable[Any]) -> int:
    """Batches of an epoch, at least one: the loader's length, or else counted in one pass.

    Args:
        loader: Training batches.

    Returns:
        The number.

    >>> count_batches([1, 2, 3])
    3
    """
    length = length_of(loader)
    return max(1, sum(1 for _ in loader) if length is None else length)


def reread(batches: Iterable[Any]) -> Callable[[], Iterable[Any]]:
    """A function that gives the batches anew at each call.

    Args:
        batches: A list of batches, or a loader.

    Returns:
        A function without arguments that returns an iterable over all batches.

    Raises:
        DataError: A generator, which can be read only once.
        InputError: An object that cannot be iterated over.

    >>> again = reread([1, 2])
    >>> list(again()), list(again())
    ([1, 2], [1, 2])
    """
    try:
        once = iter(batches) is batches
    except TypeError as error:
        raise InputError(
            f"batches come from a {type(batches).__name__}, which gives none. "
            "Cure: a list of batches or a torch DataLoader"
        ) from error
    if once:
        raise DataError(
            f"batches come from a {type(batches).__name__}, which can be read only once, and each epoch "
            "reads them. Cure: list(...) of it, or a torch DataLoader"
        )
    return lambda: batches
