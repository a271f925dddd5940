"""Tasks by name: those of this folder, those of installed packages, and ``package.module:Class``. No torch.

A file of this folder is found by its ``TASK``. A package of a user's own registers its tasks in its
pyproject.toml::

    [project.entry-points."laconic.tasks"]
    ranking = "my_package.ranking:Ranking"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from laconic.errors import InputError
from laconic.own import did_you_mean
from laconic.registry import TASKS, Entry
from laconic.tasks.task import Task

__all__ = ["TaskEntry", "find_task", "make_task", "task_entries", "task_names"]


@dataclass(frozen=True)
class TaskEntry(Entry):
    """A task's row: what the command line, the help and the documentation read.

    Args:
        name: Its name in a run file and at the command line.
        kind: Its class.

    >>> task_entries()["regression"].help
    "Quantities with Gaussian noise; metric: root mean squared error in the target's unit, or R2."
    """

    kind: type[Task]


def task_names() -> tuple[str, ...]:
    """All registered names, in order. Imports no user's package.

    Returns:
        The names of a run file and of the command line.

    Raises:
        InputError: A name that is taken twice.

    >>> "classification" in task_names()
    True
    """
    return TASKS.names()


def task_entries() -> Mapping[str, TaskEntry]:
    """All registered tasks by name.

    Returns:
        Each task's row.

    Raises:
        InputError: A name that is taken twice, or a package whose task cannot be imported.

    >>> task_entries()["segmentation"].kind.__name__
    'Segmentation'
    """
    return {name: find_task(name) for name in task_names()}


def find_task(text: str) -> TaskEntry:
    """The task of this name, or that ``package.module:Class`` names.

    Args:
        text: A registered name, or a module, a colon and a class that is a :class:`laconic.tasks.Task`.

    Returns:
        The task's row.

    Raises:
        InputError: No such task, with the name that may have been meant.

    >>> find_task("regresion")
    Traceback (most recent call last):
    ...
    laconic.errors.InputError: there is no task 'regresion'. Cure: did you mean regression?
    """
    found = TASKS.find(text)
    entry: TaskEntry = TaskEntry(text, found) if isinstance(found, type) else found
    return entry


def make_task(text: str, settings: Mapping[str, Any] | None = None) -> Task:
    """A task by its name and its settings.

    Args:
        text: As in :func:`find_task`.
        settings: Values of its fields, by name.

    Returns:
        The task.

    Raises:
        InputError: No such task, or no such setting.

    >>> make_task("segmentation", {"ignore": 255}).ignore
    255
    """
    entry = find_task(text)
    for name in settings or {}:
        if name not in entry.fields:
            raise InputError(f"task {text} has no setting {name!r}. Cure: {did_you_mean(name, entry.fields)}")
    try:
        return entry.kind(**dict(settings or {}))
    except TypeError as error:  # a field without a default, or a method that is abstract
        raise InputError(
            f"task {text}: {error}. Cure: give its settings, and write all of its methods"
        ) from error
