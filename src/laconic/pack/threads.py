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


def workers(pieces: int, threads: int | None) -> int:
    """Threads that so many pieces of work are done in, at least one.

    Raises InputError for a number of threads that is none.

    >>> workers(3, 8), workers(3, 0)
    (3, 1)
    """
    if threads is not None and not isinstance(threads, int):
        raise InputError(
            f"threads={threads!r} is no whole number. Cure: None, for as many as there are processors"
        )
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
