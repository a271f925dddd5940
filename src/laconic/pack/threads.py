"""Independent work in threads; compiled code releases the interpreter's lock (GIL)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from laconic.errors import InputError

T = TypeVar("T")


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_threads(threads: int | None) -> None:
    """Raises InputError for what is no number of threads."""
    if threads is None:
        return
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        raise InputError(
            f"threads={threads!r} is no whole number from 1. Cure: None, for as many as there are processors"
        )


def workers(pieces: int, threads: int | None) -> int:
    """Threads that so many pieces of work are done in, at least one.

    Raises InputError for a number of threads that is none.

    >>> workers(3, 8), workers(3, 1)
    (3, 1)
    """
    check_threads(threads)
    return max(1, min(pieces, processors() if threads is None else threads))


def in_threads(work: Callable[[int], T], numbers: range, threads: int | None) -> list[T]:
    """``work`` of each number, in order; in ``threads`` threads (None: as many as there are processors).

    If several fail, the error of the smallest number is raised, independent of the threads' order.
    """
    count = workers(len(numbers), threads)
    if count < 2:
        return [work(k) for k in numbers]
    from concurrent.futures import ThreadPoolExecutor  # most files have no chunks

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, numbers))
