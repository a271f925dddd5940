"""Measured latency: the median of many calls, with its spread."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import replace

from laconic.cost.tables import Cost, Measured
from laconic.errors import InputError

_WARM_UP = 3


def measure(
    cost: Cost,
    call: Callable[[], object],
    *,
    threads: int,
    runs: int = 50,
    clock: Callable[[], float] = time.perf_counter,
) -> Cost:
    """The same cost with its ``measured`` field filled: ``call`` is one run of the network on this machine.

    After three warm-up calls, each of ``runs`` calls is timed separately.

    Args:
        cost: The counted cost.
        call: Runs the network once.
        threads: Threads that ``call`` uses; recorded as they are.
        runs: Calls that are timed, at least 1.
        clock: Returns a time in seconds.

    Returns:
        The same cost with the median, the 10th and the 90th percentile in seconds in ``measured``.

    Raises:
        InputError: ``runs`` is below 1.

    >>> from laconic.cost import Cost
    >>> ticks = iter([0.0, 0.3, 1.0, 1.1, 2.0, 2.2])
    >>> empty = Cost((), (), 0, 0, 0, 0, 0, 0)
    >>> measure(empty, list, threads=1, runs=3, clock=lambda: next(ticks)).measured.runs
    3
    """
    if runs < 1:
        raise InputError(f"latency needs at least one run, got {runs}. Cure: runs=50")
    for _ in range(_WARM_UP):
        call()
    times = []
    for _ in range(runs):
        started = clock()
        call()
        times.append(clock() - started)
    times.sort()
    middle = (times[(runs - 1) // 2] + times[runs // 2]) / 2
    low, high = times[runs // 10], times[-1 - runs // 10]
    return replace(
        cost, measured=Measured(middle, low, high, runs, threads, platform.processor() or platform.machine())
    )
