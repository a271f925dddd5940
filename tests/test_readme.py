"""The README's example runs as it stands, in under a minute, and does what the README says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def example() -> str:
    found = re.search(r"<!-- example: digits -->\n```python\n(.*?)```", README.read_text(), re.DOTALL)
    if found is None:
        raise LookupError("README.md has lost its digits example")
    return found.group(1)


def test_example_is_short() -> None:
    assert len([line for line in example().splitlines() if line.strip()]) <= 25


def test_example_runs(tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text("import torch\ntorch.set_num_threads(1)\n" + example())
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    found = re.search(r"(\d+) -> (\d+) bytes, (\d+)x smaller", done.stdout)
    assert found is not None, done.stdout
    assert int(found.group(3)) >= 20
    assert (tmp_path / "digits.lac").stat().st_size == int(found.group(2))
