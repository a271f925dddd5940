"""Arguments of the public functions as the library works with them: a task or a loss function, batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized
from typing import Any

from laconic.errors import DataError, InputError
from laconic.tasks.plain_loss import PlainLoss
from laconic.tasks.task import Task

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
