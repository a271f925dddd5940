"""Time and memory of loading a file in a fresh process that has only imported the library.

Run with file names, it imports what loading needs and then forks once for each file, so that each starts from
the same memory; a crash ends the fork only. ``measured`` starts this module as a process and reads its
output.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from laconic.records import AnyArray
    from laconic.runtime import Network

MIB = 2**20
ROOM = 3 * 2**30
"""Bytes of address space above what the imports take: a file that wants more fails here, not the machine."""


SECONDS = 60
"""CPU time after which a file is stopped."""


class Cost(NamedTuple):
    """``outcome``: "loaded", an exception's name, or "killed by ..."; ``seconds``: CPU, all threads."""

    outcome: str
    seconds: float
    peak_bytes: int
    message: str = ""


def measured(folder: Path, files: Sequence[bytes], call: str = "load") -> list[Cost]:
    """The cost of each file, one process for as many as it survives. ``call``: a function of this module."""
    paths = []
    for k, data in enumerate(files):
        paths.append(folder / f"{k}.lac")
        paths[-1].write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-m", "tests.attacks.measure", call, *map(str, paths)],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    return [Cost(**json.loads(line)) for line in done.stdout.splitlines() if line.startswith("{")]


def load(path: str) -> Callable[[], None]:
    """Load a file with the default limits on one thread; what is returned calls it, and is not measured."""
    import laconic.runtime

    network = laconic.runtime.load(path, threads=1)
    return lambda: exercise(network)


def load_trusted(path: str) -> Callable[[], None]:
    """The same without limits, to see what a file would take; it is not called."""
    import laconic.runtime
    from laconic.pack import Limits

    laconic.runtime.load(path, threads=1, limits=Limits.trusted())
    return lambda: None


def look(path: str) -> Callable[[], None]:
    """The layout of a file, as for ``laconic inspect``, with the default limits."""
    from laconic.pack import layout

    layout(Path(path).read_bytes())
    return lambda: None


def export(path: str) -> Callable[[], None]:
    """Write a file as ONNX, with the default limits."""
    import laconic.runtime

    laconic.runtime.export_onnx(path, path + ".onnx")
    return lambda: None


def exercise(network: Network) -> None:
    """Calls on 0, 1 and 100 samples (where inputs are not large), of zeros and of extreme entries."""
    from laconic.errors import LaconicError

    for free in (0, 1, 100):
        for entry in (0, -(2**63), 2**62, -1):
            shapes = [tuple(free if n is None else n for n in spec.shape) for spec in network.inputs]
            if sum(int(np.prod(shape)) for shape in shapes) > MIB:
                continue
            with contextlib.suppress(LaconicError):
                network(
                    *(_filled(s, spec.dtype, entry) for s, spec in zip(shapes, network.inputs, strict=True))
                )


def _filled(shape: tuple[int, ...], dtype: str, entry: int) -> AnyArray:
    with np.errstate(all="ignore"):
        return np.full(shape, np.array(entry).astype(dtype))


def hog(path: str) -> Callable[[], None]:
    """A known cost, 300 MiB and half a second, which this module must measure."""
    import time

    start = time.process_time()
    held = np.ones(300 * MIB, np.uint8)
    while time.process_time() < start + 0.5:
        held[:MIB] += 1
    return lambda: None


def abort(path: str) -> Callable[[], None]:
    """End the process."""
    os.abort()


def _peak() -> int:
    """The most memory that this process has held since the last :func:`_reset`, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM")


def _reset() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _warm() -> None:
    """Import all that loading uses, by loading a file of a few bytes."""
    import tempfile

    from laconic.pack import encode
    from laconic.records import Graph, Node, PackedModel, RawTensor, ValueSpec

    graph = Graph((ValueSpec("float32", (None, 4)),), (Node("linear", (0, -1)), Node("relu", (1,))), (2,))
    data = encode(PackedModel((RawTensor("w", np.ones((4, 4), np.float32)),), graph))
    with tempfile.NamedTemporaryFile(suffix=".lac") as file:
        file.write(data)
        file.flush()
        load(file.name)


def _cost(call: str, path: str) -> Cost:
    import time

    from laconic.errors import LaconicError

    _reset()
    before, start = _peak(), time.process_time()
    outcome, message = "loaded", ""
    after: Callable[[], None] | None = None
    try:
        after = globals()[call](path)
    except LaconicError as error:
        outcome, message = type(error).__name__, str(error)[:500]
    except Exception as error:  # noqa: BLE001 - any other exception is reported by its name
        outcome, message = f"foreign {type(error).__name__}", str(error)[:500]
    seconds, peak = time.process_time() - start, _peak() - before
    try:
        (after or (lambda: None))()
    except Exception as error:  # noqa: BLE001 - as above
        outcome, message = f"foreign {type(error).__name__} in a call", str(error)[:500]
    return Cost(outcome, seconds, peak, message)


def _in_a_fork(call: str, path: str) -> Cost:
    """The cost of one file, reported by a fork of this process; or the signal that ended it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.environ["LACONIC_CACHE"] = f"{path}.cache"  # no cached measurements
        os.write(writer, json.dumps(_cost(call, path)._asdict()).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return Cost(**json.loads(text)) if text else Cost(f"killed by {status}", 0.0, 0)


def main(call: str, *paths: str) -> None:
    """Measure each file, in order."""
    import resource

    _warm()
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, size + ROOM))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))  # of each fork: its clock starts at 0
    for path in paths:
        print(json.dumps(_in_a_fork(call, path)._asdict()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
