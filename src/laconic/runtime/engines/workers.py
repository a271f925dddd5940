"""Threads that wait for work, started at the first work: most networks need none."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future


class Workers:
    """``count`` threads with the one method of an executor that our kernels use.

    After a fork new threads are started, since a child does not have its parent's.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool: Executor | None = None
        self._process = 0

    def submit(self, call: Callable[..., None], *arguments: Any) -> Future[None]:
        """Run ``call(*arguments)`` in one of the threads."""
        if self._pool is None or self._process != os.getpid():
            from concurrent.futures import ThreadPoolExecutor

            self._pool, self._process = ThreadPoolExecutor(self._count, "laconic"), os.getpid()
        return self._pool.submit(call, *arguments)
