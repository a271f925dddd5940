"""Progress of long work: one line on standard error, once the work has lasted two seconds.

On a terminal the line is rewritten in place and erased in the end. Elsewhere (a pipe, a log file, a notebook)
nothing is printed unless requested: by ``LACONIC_PROGRESS=1`` in the environment, or by :func:`show` for a
block of code. ``LACONIC_PROGRESS=0`` turns progress off, also on terminals.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol, TextIO

from laconic.errors import InputError

PROGRESS_VARIABLE = "LACONIC_PROGRESS"
QUIET_SECONDS = 2.0
"""Shorter work prints no progress."""
LIVE_SECONDS = 0.25
"""Seconds between two updates of the line on a terminal."""
LOG_SECONDS = 10.0
"""Seconds between two lines elsewhere."""


class Advance(Protocol):
    """Call it after each step, with a short description of the next step."""

    def __call__(self, text: str = "", /) -> None:
        """One step is done; ``text`` describes the next."""
        ...


@contextmanager
def steps(label: str, total: int | None = None, text: str = "") -> Iterator[Advance]:
    """Show the progress of the block: ``label``, the steps done of ``total``, time elapsed and time left.

    Nested blocks share the line, the outer label first. A separate thread prints, so a step costs well under
    a microsecond.

    Args:
        label: What is being done ("finding groups").
        total: Number of steps; None if unknown (no time left is shown then).
        text: A short description of the first step; ``advance`` changes it.

    Raises ``InputError`` for a LACONIC_PROGRESS that is neither 0 nor 1.

    >>> with steps("finding groups", total=2) as advance:
    ...     for name in ("conv1", "conv2"):
    ...         advance(name)
    """
    part = _Part(label, total, text)
    line = _LINE.get()
    if line is not None:
        with line.within(part):
            yield part.advance
        return
    live = _wanted(sys.stderr)
    if live is None:
        yield part.advance
        return
    line = _Line(sys.stderr, live)
    token = _LINE.set(line)
    try:
        with line.printed(), line.within(part):
            yield part.advance
    finally:
        _LINE.reset(token)


@contextmanager
def show(wanted: bool) -> Iterator[None]:
    """Show progress within the block (wherever standard error goes), or show none.

    >>> with show(False):
    ...     pass  # laconic.save(small, "model.lac")
    """
    token = _SHOWN.set(wanted)
    try:
        yield
    finally:
        _SHOWN.reset(token)


@contextmanager
def show_by_default() -> Iterator[None]:
    """Show progress within the block, unless LACONIC_PROGRESS says otherwise: what the command line does."""
    with show(_from_environment() is not False):
        yield


def silenced() -> bool:
    """Whether LACONIC_PROGRESS=0 asks for no progress at all."""
    return _from_environment() is False


def duration(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss.

    >>> duration(75), duration(3700)
    ('1:15', '1:01:40')
    """
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


@dataclass
class _Part:
    """One ``steps`` block: its label and its progress."""

    label: str
    total: int | None
    text: str = ""
    done: int = 0
    started: float = field(default_factory=time.monotonic)

    def advance(self, text: str = "", /) -> None:
        self.done += 1
        self.text = text


class _Line:
    """The blocks that are open, and the thread that prints them.

    Only that thread prints, so that the elapsed time is updated during a long step.
    """

    def __init__(self, stream: TextIO, live: bool) -> None:
        self._stream = stream
        self._live = live
        self._parts: list[_Part] = []
        self._ended = threading.Event()

    @contextmanager
    def within(self, part: _Part) -> Iterator[None]:
        self._parts.append(part)
        try:
            yield
        finally:
            self._parts.remove(part)

    @contextmanager
    def printed(self) -> Iterator[None]:
        printer = threading.Thread(target=self._print, name="laconic-progress", daemon=True)
        printer.start()
        try:
            yield
        finally:
            self._ended.set()
            printer.join()

    def _print(self) -> None:
        if self._ended.wait(QUIET_SECONDS):
            return
        with suppress(OSError, ValueError):  # standard error was closed
            while True:
                self._write(describe(tuple(self._parts), time.monotonic()))
                if self._ended.wait(LIVE_SECONDS if self._live else LOG_SECONDS):
                    break
            if self._live:
                self._stream.write("\r\x1b[K")
                self._stream.flush()

    def _write(self, text: str) -> None:
        if self._live:
            width = shutil.get_terminal_size().columns - 1  # a line that wraps cannot be rewritten
            self._stream.write(f"\r\x1b[K{text[:width]}")
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()


_SHOWN: ContextVar[bool | None] = ContextVar("laconic_progress_shown", default=None)
_LINE: ContextVar[_Line | None] = ContextVar("laconic_progress_line", default=None)


def describe(parts: Sequence[_Part], now: float) -> str:
    """The line for these blocks, outermost first, at this time."""
    names = [f"{p.label} {p.done}/{p.total}" if p.total else p.label for p in parts]
    words = f"laconic: {': '.join(names)}"
    if parts and parts[-1].text:
        words += f"  {parts[-1].text}"
    if parts:
        words += f"  {duration(now - parts[0].started)} elapsed"
    counted = next((p for p in parts if p.total and p.done), None)
    if counted is not None and counted.total:
        rate = (now - counted.started) / counted.done
        words += f", about {duration(rate * (counted.total - counted.done))} left"
    return words


def _wanted(stream: TextIO | None) -> bool | None:
    """Whether the line is live (a terminal) or logged (requested elsewhere); None: nothing is shown."""
    asked = _SHOWN.get()
    if asked is None:
        asked = _from_environment()
    if stream is None or stream.closed:
        return None
    terminal = stream.isatty()
    shown = terminal if asked is None else asked
    return terminal if shown else None


def _from_environment() -> bool | None:
    text = os.environ.get(PROGRESS_VARIABLE, "")
    if text in ("", "0", "1"):
        return None if not text else text == "1"
    raise InputError(f"{PROGRESS_VARIABLE} must be 0 or 1, got {text!r}. Cure: {PROGRESS_VARIABLE}=0")
