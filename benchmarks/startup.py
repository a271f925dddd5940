"""How long does a fresh process take to import the library, and to predict from a file?

Each row is a process of its own, started again for every round; rows are interleaved, so that other load on
the machine falls on all alike. Beside the library stand the empty interpreter and the imports that it
cannot do without. The goal for both imports: no torch, at most 0.5 s.

    python benchmarks/startup.py [--rounds 9] [--file model.lac]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

GOAL_SECONDS = 0.5
PREDICT = """
import sys, numpy as np
from laconic.runtime import load
net = load({path!r})
net(*(np.zeros([1 if n is None else n for n in s.shape], s.dtype) for s in net.inputs))
"""
NO_TORCH = "\nimport sys\nraise SystemExit('torch' in sys.modules)"


def rows(path: str | None) -> dict[str, str]:
    """What each fresh process runs, by name."""
    found = {
        "nothing": "",
        "numpy": "import numpy",
        "numpy, onnx and onnxruntime": "import numpy, onnx, onnxruntime",
        "laconic": "import laconic" + NO_TORCH,
        "laconic.runtime": "import laconic.runtime" + NO_TORCH,
    }
    if path is not None:
        found["load and predict"] = PREDICT.format(path=path) + NO_TORCH
    return found


def seconds(program: str) -> float:
    """Wall time of a fresh interpreter that runs ``program``; it must end well."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - start


def main() -> None:
    """Print medians with their spread, less nothing: the interpreter's own start is in every row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--file", help="also load this file and predict once")
    options = parser.parse_args()
    programs = rows(options.file)
    times = [[seconds(program) for program in programs.values()] for _ in range(options.rounds + 1)]
    print(f"fresh processes, medians (smallest .. largest) of {options.rounds} rounds, no torch in any")
    for name, column in zip(programs, zip(*times[1:], strict=True), strict=True):
        median = statistics.median(column)
        verdict = ""
        if name.startswith("laconic"):
            verdict = "   goal met" if median <= GOAL_SECONDS else f"   goal missed: <= {GOAL_SECONDS} s"
        print(f"{name:<30} {median:6.3f} s ({min(column):.3f} .. {max(column):.3f}){verdict}")


if __name__ == "__main__":
    main()
