"""The child's side of an isolated network: it loads one file and answers calls over its pipes."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from laconic.errors import LaconicError
from laconic.records.limits import Limits
from laconic.runtime.isolation import frames

if TYPE_CHECKING:
    from laconic.runtime.network import Network

SLACK = 2**30
"""Address space for threads' stacks and for what allocators keep, beside what the limits count."""

_UNLIMITED = 2**50


def main() -> None:
    """Serve the process that started this one, until its end of the pipe is closed."""
    requests, answers = _pipes()
    said, arrays, data = frames.get(requests, _UNLIMITED)
    limits = Limits(**said["limits"])
    network = None
    while True:
        try:
            if network is None:
                network = _loaded(data, limits, said["options"])
                frames.put(answers, _about(network))
            else:
                frames.put(answers, {}, network.run(tuple(arrays)))
        except LaconicError as error:
            frames.put(answers, {"error": type(error).__name__, "message": str(error)})
        except MemoryError:
            frames.put(answers, {"error": "IsolatedError", "message": "the process ran out of its memory"})
        if network is None:
            return
        try:
            _, arrays, _ = frames.get(requests, _UNLIMITED)
        except EOFError:
            return


def _about(network: Network) -> dict[str, Any]:
    """What the other process is told of a network: types, shapes and names."""
    return {
        "inputs": [[spec.dtype, list(spec.shape), spec.name, list(spec.axes)] for spec in network.inputs],
        "outputs": list(network.output_names),
        "keyed": network.keyed,
        "text": network.describe(),
    }


def _loaded(data: bytes, limits: Limits, options: dict[str, Any]) -> Network:
    """The network, in a process that may not take much more than the limits say."""
    import onnxruntime  # noqa: F401 - its own memory is not the file's

    from laconic.runtime.network import load

    _restrict(limits.allowed_memory(len(data)) + limits.call_memory + SLACK)
    network: Network = load(data, limits=limits, **options)
    return network


def _restrict(room: int) -> None:
    """No more address space than this, no core dumps, no files written; where the system has such limits."""
    try:
        import resource
    except ImportError:  # Windows
        return
    if room < _UNLIMITED:
        with suppress(OSError, ValueError), open("/proc/self/statm") as file:
            size = int(file.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + room, size + room))
    for kind in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        with suppress(OSError, ValueError):
            resource.setrlimit(kind, (0, 0))


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output for messages; whatever else writes to the latter goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return sys.stdin.buffer, answers


if __name__ == "__main__":
    main()
