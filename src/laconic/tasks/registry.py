"""Tasks by name: those of this folder, those of installed packages, and ``package.module:Class``. No torch.

A file of this folder is found by its ``TASK``. A package of a user's own registers its tasks in its
pyproject.toml::

    [project.entry-points."laconic.tasks"]
    ranking = "my_package.ranking:Ranking"
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from laconic.errors import InputError
from laconic.own import did_you_mean, own_object
from laconic.tasks.task import Task

GROUP = "laconic.tasks"

__all__ = ["GROUP", "TaskEntry", "find_task", "make_task", "task_entries", "task_names"]


@dataclass(frozen=True)
class TaskEntry:
    """A task's row: what the command line, the help and the documentation read.

    Args:
        name: Its name in a run file and at the command line.
        kind: Its class.

    >>> task_entries()["regression"].help
    "Quantities with Gaussian noise; metric: root mean squared error in the target's unit, or R2."
    """

    name: str
    kind: type[Task]

    @property
    def help(self) -> str:
        """The first line of the class's docstring."""
        return (self.kind.__doc__ or "").strip().partition("\n")[0]

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the task's settings."""
        return tuple(field.name for field in fields(self.kind))


def task_names() -> tuple[str, ...]:
    """All registered names, in order. Imports no user's package.

    Raises:
        InputError: A name that is taken twice.

    >>> "classification" in task_names()
    True
    """
    return tuple(sorted(_loaders()))


def task_entries() -> Mapping[str, TaskEntry]:
    """All registered tasks by name.

    Raises:
        InputError: A name that is taken twice, or a package whose task cannot be imported.
    """
    return {name: load() for name, load in sorted(_loaders().items())}


def find_task(text: str) -> TaskEntry:
    """The task of this name, or that ``package.module:Class`` names.

    Args:
        text: A registered name, or a module, a colon and a class that is a :class:`laconic.tasks.Task`.

    Raises:
        InputError: No such task, with the name that may have been meant.

    >>> find_task("regresion")
    Traceback (most recent call last):
    ...
    laconic.errors.InputError: there is no task 'regresion'. Cure: did you mean regression?
    """
    if ":" in text:
        return TaskEntry(text, _checked(own_object(text, "task"), text))
    loaders = _loaders()
    if text not in loaders:
        cure = did_you_mean(text, loaders)
        raise InputError(f"there is no task {text!r}. Cure: {cure}")
    return loaders[text]()


def make_task(text: str, settings: Mapping[str, Any] | None = None) -> Task:
    """A task by its name and its settings.

    Args:
        text: As in :func:`find_task`.
        settings: Values of its fields, by name.

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


def _loaders() -> dict[str, Callable[[], TaskEntry]]:
    """What gives the task of each name."""
    loaders: dict[str, Callable[[], TaskEntry]] = {}
    source: dict[str, str] = {}
    for entry in _of_this_folder():
        _add(loaders, source, entry.name, entry.kind.__module__, partial(_same, entry))
    for point in entry_points(group=GROUP):
        _add(loaders, source, point.name, point.value, partial(_of_entry_point, point))
    return loaders


def _add(
    loaders: dict[str, Callable[[], TaskEntry]],
    source: dict[str, str],
    name: str,
    where: str,
    load: Callable[[], TaskEntry],
) -> None:
    if name in source and source[name] != where:
        raise InputError(
            f"the task {name!r} is registered twice, by {source[name]} and by {where}. "
            "Cure: another name in the package of your own, or uninstall one of them"
        )
    source[name] = where
    loaders[name] = load


def _same(entry: TaskEntry) -> TaskEntry:
    return entry


def _of_this_folder() -> list[TaskEntry]:
    import laconic.tasks as folder

    modules = [
        importlib.import_module(f"{folder.__name__}.{m.name}") for m in pkgutil.iter_modules(folder.__path__)
    ]
    return [module.TASK for module in modules if hasattr(module, "TASK")]


def _of_entry_point(point: EntryPoint) -> TaskEntry:
    return TaskEntry(point.name, _checked(own_object(point.value, f"task {point.name},"), point.value))


def _checked(kind: Any, text: str) -> type[Task]:
    if not (isinstance(kind, type) and issubclass(kind, Task)):
        raise InputError(
            f"task {text} is of type {type(kind).__name__}, and no task. "
            "Cure: a frozen dataclass with the base laconic.tasks.Task"
        )
    return kind
