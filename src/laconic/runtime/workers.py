"""Threads that wait for work, started when the first work comes: most networks have none for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future


class Workers:
    """``count`` threads behind the one verb of an executor that our kernels use."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool: Executor | None = None

    def submit(self, call: Callable[..., None], *arguments: Any) -> Future[None]:
        """Run ``call(*arguments)`` in one of the threads."""
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(self._count, "laconic")
        return self._pool.submit(call, *arguments)
