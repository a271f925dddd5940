"""Python code in a fresh process, if need be one where importing torch raises."""

from __future__ import annotations

import subprocess
import sys

_WALL = """
import sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "lightning_fabric"):
            raise ModuleNotFoundError("the wall: no " + name + " here", name=name)

sys.meta_path.insert(0, Wall())
"""


def run_fresh(code: str, *, without_torch: bool = False) -> str:
    """What ``code`` prints. Raises AssertionError with the process's own words if it fails."""
    program = _WALL + code if without_torch else code
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode != 0:
        raise AssertionError(f"the process ended with status {done.returncode}:\n{done.stderr}")
    return done.stdout
