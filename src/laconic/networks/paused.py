"""Forward passes that stand still before chosen calls, so that a layer can be changed before it runs.

A network is then changed from its inputs to its outputs in one pass: each layer reads what the layers before
it give after their change, and no layer is run twice. Each pass runs in a thread of its own, and only while
the caller waits for it: at any time one thread runs. Context variables are the caller's, and so is what torch
keeps by thread: autocast, the default device, inference mode.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from contextvars import copy_context
from types import TracebackType
from typing import Any

import torch
from torch import nn

from laconic.errors import LaconicError
from laconic.networks.inputs import call as run
from laconic.networks.watching import Call, Watching


class _Abandoned(LaconicError):
    """Ends a pass that nobody waits for any more."""


class PausedRun:
    """A forward pass without gradients that stops before each call that ``wanted`` chooses.

    Args:
        module: The network; it runs in the mode that it is in.
        inputs: The inputs of one call.
        wanted: Whether the pass stops before a call; it may answer otherwise from call to call.

    >>> net, seen = nn.Sequential(nn.Linear(2, 2), nn.ReLU()), []
    >>> with PausedRun(net, torch.ones(1, 2), lambda call: call.name == "linear") as passing:
    ...     while (call := passing.advance()) is not None:
    ...         seen.append(tuple(call.args[0].shape))
    >>> seen
    [(1, 2)]
    """

    def __init__(self, module: nn.Module, inputs: Any, wanted: Callable[[Call], bool]) -> None:
        self._module, self._inputs, self._wanted = module, inputs, wanted
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._call: Call | None = None
        self._state = _state_of_thread(module)
        self._abandoned = self._over = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="laconic-pass")
        self._future: Future[None] = self._pool.submit(copy_context().run, self._run)

    def __enter__(self) -> PausedRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def advance(self) -> Call | None:
        """Run to the next call, which has not run yet.

        Returns:
            The call; None where the network has run to its end.

        Raises:
            What the network raises.
        """
        if not self._over:
            self._go.release()
            self._stopped.acquire()
        if self._over:
            self._future.result()
            return None
        return self._call

    def close(self) -> None:
        """End the pass where it stands."""
        self._abandoned = True
        self._go.release()
        self._pool.shutdown(wait=True)

    def _run(self) -> None:
        self._go.acquire()
        try:
            if not self._abandoned:
                with ExitStack() as stack:
                    for each in self._state:
                        stack.enter_context(each)
                    with torch.no_grad(), Watching(before=self._stop):
                        run(self._module, self._inputs)
        except _Abandoned:
            return
        finally:
            self._call, self._over = None, True
            self._stopped.release()

    def _stop(self, call: Call) -> None:
        if not self._wanted(call):
            return
        self._call = call
        self._stopped.release()
        self._go.acquire()
        if self._abandoned:
            raise _Abandoned("the pass was ended by its caller")


def _state_of_thread(module: nn.Module) -> list[AbstractContextManager[Any]]:
    """What torch keeps by thread and a forward pass depends on, as contexts to be entered in another thread.

    The default dtype is of the process. Autocast keeps no copies of weights here: a weight may be changed
    between two calls.
    """
    kinds = dict.fromkeys(["cpu", "cuda", *(p.device.type for p in module.parameters())])
    found: list[AbstractContextManager[Any]] = [
        torch.autocast(kind, dtype=torch.get_autocast_dtype(kind), cache_enabled=False)
        for kind in kinds
        if kind != "meta" and torch.is_autocast_enabled(kind)
    ]
    if torch.get_default_device().type != "cpu":
        found.append(torch.device(torch.get_default_device()))
    if torch.is_inference_mode_enabled():
        found.append(torch.inference_mode())
    return found
