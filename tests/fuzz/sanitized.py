"""Shared by the harnesses of compiled modules: a build with sanitizers, its process, wrong arguments."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "laconic"
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
FLAGS = ("-O1", "-g", "-shared", "-fPIC", "-ffp-contract=off", *SANITIZERS)
Rng = np.random.Generator


def build(folder: Path, compiler: str, sources: Sequence[Path], flags: Sequence[str] = ()) -> None:
    """Each source as a module of its name in the folder, with sanitizers."""
    headers = f"-I{sysconfig.get_path('include')}"
    shared = ["-shared-libasan"] if "clang" in compiler else []
    for source in sources:
        target = str(folder / f"_{source.stem}.abi3.so")
        subprocess.run([compiler, *FLAGS, *shared, *flags, headers, str(source), "-o", target], check=True)


def library(compiler: str) -> str:
    """The sanitizers' library, which must be loaded before Python."""
    name = "libclang_rt.asan-x86_64.so" if "clang" in compiler else "libasan.so"
    for candidate in (name, name.replace("x86_64", os.uname().machine)):
        found = subprocess.run(
            [compiler, f"-print-file-name={candidate}"], check=True, capture_output=True, text=True
        ).stdout.strip()
        if os.path.isabs(found):
            return found
    sys.exit(f"{compiler} has no {name}. Cure: --compiler gcc, or install the sanitizers' runtime")


def options(words: str | None) -> argparse.ArgumentParser:
    """The options of every harness; ``--built`` is how it starts itself again."""
    parser = argparse.ArgumentParser(description=words, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compiler", default="clang")
    parser.add_argument("--built", action="store_true", help=argparse.SUPPRESS)
    return parser


def again(module: str, compiler: str, make: Callable[[Path], None], arguments: Sequence[str]) -> int:
    """The exit status of a harness that runs in a separate process, on the modules that ``make`` built."""
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        env = {
            **os.environ,
            "LD_PRELOAD": library(compiler),
            "PYTHONPATH": os.pathsep.join([folder, str(ROOT / "src"), str(ROOT)]),
            "PYTHONMALLOC": "malloc",  # a separate block for each object, so that its end is checked
            # The interpreter does not free all its memory; a block of a gigabyte is a fault of the harness.
            "ASAN_OPTIONS": "detect_leaks=0:quarantine_size_mb=64:max_allocation_size_mb=1000",
        }
        command = [sys.executable, "-m", module, "--built", *arguments]
        return subprocess.run(command, env=env, check=False).returncode


def array(rng: Rng, values: Any, dtype: Any) -> Any:
    """An array, sometimes one that is not aligned, too long or too short."""
    whole: Any = np.array(values, dtype)
    fate = rng.random()
    if fate < 0.01:
        raw = np.frombuffer(b"\0" + whole.tobytes(), np.uint8)[1:]
        return (
            raw.copy()
            if rng.random() < 0.5
            else np.frombuffer(bytearray(b"\0" + whole.tobytes()), np.uint8)[1:]
        )
    if fate < 0.02:
        return whole.ravel()[: int(rng.integers(0, whole.size + 1))]
    if fate < 0.03:
        return np.resize(whole, whole.size + int(rng.integers(1, 4)))
    return whole


def size(rng: Rng, good: int) -> int:
    """The right size, or a wrong one."""
    if rng.random() < 0.98:
        return good
    return int(rng.choice([-1, 0, good + 1, 2 * good + 1, 2**31, 2**62, -(2**62)])) * int(rng.choice([1, 4]))
