"""A network that runs in a child process, for files that nobody vouches for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import weakref
from dataclasses import asdict
from typing import Any, BinaryIO, NoReturn, Self, cast

import laconic
from laconic import errors
from laconic.errors import InputError, IsolatedError, LaconicError
from laconic.pack.graph.ops import DTYPES
from laconic.records import AnyArray, ValueSpec
from laconic.records.limits import Limits
from laconic.runtime.calls.named import Returned, in_order, returned
from laconic.runtime.isolation import frames

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from laconic.runtime.isolated_child import main; main()"
)
_LONGEST = 10.0**6


class IsolatedNetwork:
    """``network(x) -> y`` as :class:`laconic.runtime.Network`, computed by a child process.

    What this process promises whatever the file says: it lives on, it waits ``Limits.seconds`` at most, and
    it takes no more than the arrays' memory. An end of the child is an ``IsolatedError``. The child may take
    the memory that the limits allow (where the system has such a limit), writes no files, and runs as the
    same user: it is a wall against crashes and hunger, no sandbox against code of a broken library.

    Close it, or use it in a ``with`` statement; a network that is forgotten is closed.

    Args:
        data: The file's bytes.
        limits: What loading and calling it may take: memory in bytes, ``seconds`` for each request.
        options: ``threads``, ``engine``, ``batch`` and ``precision``, as for :func:`laconic.runtime.load`.

    Example:
        >>> import numpy as np
        >>> from laconic.pack import encode
        >>> from laconic.records import Graph, Node, PackedModel
        >>> graph = Graph((ValueSpec("float32", (None, 2)),), (Node("relu", (0,)),), (1,))
        >>> with IsolatedNetwork(encode(PackedModel((), graph)), Limits()) as network:
        ...     network(np.float32([[-1, 2]]))
        array([[0., 2.]], dtype=float32)
    """

    def __init__(self, data: bytes, limits: Limits, **options: Any) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._owner = os.getpid()
        root = os.path.dirname(os.path.dirname(os.path.abspath(laconic.__file__)))
        paths = json.dumps([root, *(path for path in sys.path if path)])
        self._child = subprocess.Popen(
            [sys.executable, "-c", _START, paths],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._end = weakref.finalize(self, _end, self._child)
        said, _ = self._ask("loading it", {"limits": asdict(limits), "options": options}, data=data)
        try:
            self.inputs = tuple(_spec(*parts) for parts in said["inputs"])
            self.output_names = tuple(map(str, said["outputs"]))
            self.outputs = len(self.output_names)
            self._keyed = bool(said["keyed"])
            self._text = str(said["text"])
        except (KeyError, TypeError, ValueError, InputError) as error:
            self.close()
            raise IsolatedError(f"the process that reads the file sent what is no answer: {error}") from error

    def __reduce__(self) -> NoReturn:
        raise IsolatedError(
            "a network in a child process cannot be copied or pickled. "
            "Cure: load the file again with isolated=True"
        )

    def __call__(self, *arrays: AnyArray, **named: AnyArray) -> Returned:
        """Run the network; inputs in order, or by their names, outputs as the module returned them.

        Raises what :class:`laconic.runtime.Network` raises, and ``IsolatedError`` when the child has ended.
        """
        if named:
            arrays = in_order([spec.name for spec in self.inputs], arrays, named)
        for k, array in enumerate(arrays):
            kind = str(getattr(array, "dtype", type(array).__name__))
            if kind not in DTYPES:
                raise InputError(
                    f"input {k} must be an array of {', '.join(DTYPES)}, got {kind}. Cure: x.astype"
                )
        _, results = self._ask("a call", {}, arrays)
        if len(results) != self.outputs:
            self.close()
            raise IsolatedError(
                f"the process that runs the file sent {len(results)} of {self.outputs} outputs"
            )
        return returned(self.output_names if self._keyed else (), results)

    def describe(self) -> str:
        """How the network runs, in words (see :meth:`laconic.runtime.Network.describe`)."""
        return f"in process {self._child.pid}: {self._text}"

    def close(self) -> None:
        """End the child; in a forked process, which is not its parent, this does nothing."""
        if os.getpid() == self._owner:
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(
        self, what: str, said: dict[str, Any], arrays: tuple[AnyArray, ...] = (), data: bytes = b""
    ) -> tuple[dict[str, Any], list[AnyArray]]:
        """A request and its answer; the child is ended when that takes too long."""
        if os.getpid() != self._owner:  # two processes on one pipe would read each other's answers
            raise IsolatedError(
                "this network belongs to the process that loaded it. Cure: load the file again after the fork"
            )
        if not self._end.alive:
            raise IsolatedError("the process that ran the file has ended. Cure: load the file again")
        late = threading.Event()

        def stop() -> None:
            late.set()
            self._child.kill()

        timer = threading.Timer(min(_LONGEST, self._limits.seconds), stop)
        with self._lock:
            timer.start()
            try:
                frames.put(cast(BinaryIO, self._child.stdin), said, arrays, data)
                answer, found, _ = frames.get(cast(BinaryIO, self._child.stdout), self._limits.call_memory)
            except (EOFError, OSError):
                self.close()
                raise self._ended(what, late.is_set()) from None
            except BaseException:  # half a message may be under way: the next answer would be another call's
                self.close()
                raise
            finally:
                timer.cancel()
        if "error" in answer:
            raise _error(answer)
        return answer, found

    def _ended(self, what: str, late: bool) -> IsolatedError:
        if late:
            return IsolatedError(
                f"{what} took over {self._limits.seconds} s, so its process was ended. "
                "Cure: if you trust the file, larger laconic.pack.Limits(seconds=...)"
            )
        return IsolatedError(
            f"the process that ran the file ended with status {self._child.returncode} in {what}. "
            "Cure: do not use this file; one that is right runs with isolated=False, too"
        )


def _spec(kind: str, shape: list[int | None], name: str, axes: list[str]) -> ValueSpec:
    """An input as the child tells it."""
    return ValueSpec(str(kind), tuple(shape), str(name), tuple(map(str, axes)))


def _error(answer: dict[str, Any]) -> LaconicError:
    """The child's error as the same class here."""
    kind = getattr(errors, str(answer["error"]), IsolatedError)
    if not (isinstance(kind, type) and issubclass(kind, LaconicError)):
        kind = IsolatedError
    return kind(str(answer.get("message", "")))


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:  # what was not yet written to a process that is gone
                continue
    child.wait()
