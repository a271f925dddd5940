"""Quick runs of the command line, shared by its tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

QUICK = ["--threads", "1", "--set", "reference.epochs=6", "--set", "fit.epochs=4"]
METHOD_SETTINGS = {
    "sparse-vd": ["--set", "warm_up.end=1", "--set", "hold_from=3"],
    "vnq": ["--set", "warm_up.start=0", "--set", "warm_up.end=2"],
    "magnitude": ["--set", "sparsity=0.8", "--set", "every=5"],
    "taylor": ["--set", "macs=0.5", "--set", "every=5"],
    "apoz": ["--set", "macs=0.5", "--set", "every=5"],
}


def laconic(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "laconic", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=120,
        check=False,
    )


def compress(method: str, out: Path) -> list[str]:
    """The words of a quick run."""
    return ["compress", "digits-mlp", "--method", method, "--out", str(out), *QUICK, *METHOD_SETTINGS[method]]
