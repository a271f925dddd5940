"""Time of a fresh process to import the library, and to predict from a file.

Each row is a separate process, started again in every round; rows are interleaved, so that other load on the
machine affects all alike. For comparison, the empty interpreter and the required imports are timed, too. The
goals: importing the library does not import torch and takes at most 0.5 s; a new process makes its first
prediction from a file (of LeNet-5) in at most 0.4 s, of which laconic's own code takes at most 50 ms.

The own part is measured inside the process, after the import of NumPy and ONNX Runtime. It is the time of
importing laconic with its dependencies, reading the file, building the graph, choosing how each layer runs,
and the call, minus the time in ONNX Runtime (making sessions, running them). Wall time and CPU time are both
printed: on a busy machine they differ.

Byte code is kept between rounds, as pip does when it installs, whatever PYTHONDONTWRITEBYTECODE says. A
network with a large layer is measured at its first load on a machine, and the result is cached (see
``laconic.runtime.load``): that happens before the rounds, and in every round of the rows "nothing measured
before".

    python benchmarks/startup.py [--rounds 15] [--file model.lac ...]
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

GOAL_IMPORT, GOAL_WHOLE, GOAL_OWN = 0.5, 0.4, 0.05
NO_TORCH = "\nimport sys\nraise SystemExit('torch' in sys.modules)"
PREDICT = """
import sys, numpy as np
from laconic.runtime import load
net = load({path!r})
net(*(np.zeros([1 if n is None else n for n in s.shape], s.dtype) for s in net.inputs))
"""
OWN = """
import sys, time
import numpy as np, onnxruntime
clocks = (time.perf_counter, time.thread_time)
others = [0.0, 0.0]
def now():
    return [clock() for clock in clocks]
def apart(owner, name):
    call = getattr(owner, name)
    def timed(*arguments, **named):
        start = now()
        try:
            return call(*arguments, **named)
        finally:
            for k, end in enumerate(now()):
                others[k] += end - start[k]
    setattr(owner, name, timed)
apart(onnxruntime.InferenceSession, '__init__')
apart(onnxruntime.InferenceSession, 'run')
start = now()
from laconic.runtime import load
middle = now()
net = load({path!r})
net(*(np.zeros([1 if n is None else n for n in s.shape], s.dtype) for s in net.inputs))
end = now()
assert not {{'torch', 'onnx'}} & set(sys.modules)
print(*(b - a for a, b in zip(start, middle)), *(b - a - c for a, b, c in zip(middle, end, others)))
"""


def environment(**changes: str) -> dict[str, str]:
    """The environment of this process, with byte code kept and one thread."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "OMP_NUM_THREADS": "1", **changes}


def rows() -> dict[str, str]:
    """The program of each fresh process, by name."""
    return {
        "nothing": "",
        "numpy": "import numpy",
        "numpy and onnxruntime": "import numpy, onnxruntime",
        "laconic": "import laconic" + NO_TORCH,
        "laconic.runtime": "import laconic.runtime" + NO_TORCH,
    }


def run(program: str, env: Mapping[str, str]) -> tuple[float, float, str]:
    """Wall and CPU time of a fresh interpreter that runs ``program``, and its output."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, env=env, capture_output=True, text=True
    )
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, done.stdout


def line(name: str, seconds: Sequence[float], goal: float | None = None, digits: int = 3) -> str:
    """Median with the smallest and the largest, and whether a goal is met."""
    median = statistics.median(seconds)
    verdict = "" if goal is None else f"   goal <= {goal} s: {'met' if median <= goal else 'MISSED'}"
    return (
        f"{name:<34} {median:6.{digits}f} s ({min(seconds):.{digits}f} .. {max(seconds):.{digits}f}){verdict}"
    )


def imports(rounds: int) -> None:
    """The rows that need no file."""
    programs, env = rows(), environment()
    times = [[run(program, env)[0] for program in programs.values()] for _ in range(rounds + 1)]
    for name, column in zip(programs, zip(*times[1:], strict=True), strict=True):
        print(line(name, column, GOAL_IMPORT if name.startswith("laconic") else None))


def one_load(path: str, env: Mapping[str, str]) -> list[float]:
    """Two fresh processes: the two times of the whole process, and the four times of the own part."""
    wall, processor, _ = run(PREDICT.format(path=path) + NO_TORCH, env)
    return [wall, processor, *(float(word) for word in run(OWN.format(path=path), env)[2].split())]


def predictions(path: str, rounds: int) -> None:
    """From a fresh process to the first prediction of a file: the whole, and our own part of it."""
    known, unknown = [], []
    with tempfile.TemporaryDirectory() as kept:
        for _ in range(rounds + 1):
            known.append(one_load(path, environment(LACONIC_CACHE=kept)))
            with tempfile.TemporaryDirectory() as empty:
                missing = os.path.join(empty, "file")  # a folder that cannot exist: nothing is cached
                Path(missing).touch()
                unknown.append(one_load(path, environment(LACONIC_CACHE=missing)))
    print(f"{path} ({os.path.getsize(path)} bytes): load and predict once")
    wall, processor, our_imports, _, rest, _ = zip(*known[1:], strict=True)
    print(line("  whole process", wall, GOAL_WHOLE))
    print(line("  whole process, CPU", processor))
    print(line("  own part", [times[2] + times[4] for times in known[1:]], GOAL_OWN, 4))
    print(line("  own part, CPU", [times[3] + times[5] for times in known[1:]], None, 4))
    print(line("    imports of our modules", our_imports, None, 4))
    print(line("    decode, build, choose, call", rest, None, 4))
    print(line("  nothing measured before: whole", [times[0] for times in unknown[1:]]))
    print(line("  nothing measured before: own", [times[2] + times[4] for times in unknown[1:]], None, 4))


def main() -> None:
    """Print medians with their spread; every whole process includes the interpreter's start."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--file", nargs="+", default=[], help="also load these files and predict once")
    options = parser.parse_args()
    print(f"fresh processes, medians (smallest .. largest) of {options.rounds} rounds, no torch in any")
    imports(options.rounds)
    for path in options.file:
        predictions(path, options.rounds)


if __name__ == "__main__":
    main()
