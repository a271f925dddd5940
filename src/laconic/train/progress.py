"""Progress with time left: a live bar on a terminal, one line a tick elsewhere, or nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TextIO

from laconic.progress import duration, show, silenced, steps

Tick = Callable[[str], None]


class Progress(Protocol):
    """Shows how far a piece of work is."""

    def task(self, label: str, total: int, done: int = 0) -> AbstractContextManager[Tick]:
        """Begin work of ``total`` steps, ``done`` of them finished; gives a function to call after each."""
        ...

    def say(self, text: str) -> None:
        """Show one line of text."""
        ...


class SilentProgress:
    """Shows nothing."""

    @contextmanager
    def task(self, label: str, total: int, done: int = 0) -> Iterator[Tick]:
        """A function that does nothing."""
        yield lambda text: None

    def say(self, text: str) -> None:
        """Show nothing."""


class StepsProgress(SilentProgress):
    """The progress of all long functions (see :mod:`laconic.progress`): one line, on a terminal."""

    @contextmanager
    def task(self, label: str, total: int, done: int = 0) -> Iterator[Tick]:
        """The steps that are left."""
        with steps(label, total - done) as advance:
            yield advance


class LineProgress:
    """One line a tick, with elapsed time and an estimate of the time left.

    A line a tick reads the same on a terminal, in a pipe and in a log file.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock

    @contextmanager
    def task(self, label: str, total: int, done: int = 0) -> Iterator[Tick]:
        """Print one line a tick."""
        started, ticks = self._clock(), 0

        def tick(text: str) -> None:
            nonlocal ticks
            ticks += 1
            spent = self._clock() - started
            left = spent / ticks * (total - done - ticks)
            self.say(
                f"{label} {done + ticks}/{total}  {text}  {duration(spent)} elapsed, {duration(left)} left"
            )

        with show(False):  # two lines of progress at once would write over each other
            yield tick

    def say(self, text: str) -> None:
        """Print one line at once."""
        print(text, file=self._stream, flush=True)


class BarProgress(LineProgress):
    """A live bar for terminals (rich); lines are printed above it."""

    @contextmanager
    def task(self, label: str, total: int, done: int = 0) -> Iterator[Tick]:
        """A bar with time left."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with RichProgress(*columns, console=Console(file=self._stream)) as bar:
            task = bar.add_task(label, total=total, completed=done, text="")
            with show(False):
                yield lambda text: bar.update(task, advance=1, text=text)


def for_stream(stream: TextIO | None = None) -> Progress:
    """A bar if ``stream`` (default: standard error) is a terminal, else lines.

    With LACONIC_PROGRESS=0 nothing is shown.

    Raises InputError for a LACONIC_PROGRESS that is neither 0 nor 1.
    """
    if silenced():
        return SilentProgress()
    chosen = stream or sys.stderr
    return BarProgress(chosen) if chosen.isatty() else LineProgress(chosen)
