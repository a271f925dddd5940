"""The package of one's own of ``tests/user_package``, installed by pip into a folder of this run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "user_package"
PIP = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that it was installed into; nothing was fetched, and the source is left as it was."""
    folder = tmp_path_factory.mktemp("site")
    copied = tmp_path_factory.mktemp("source") / "package"
    shutil.copytree(SOURCE, copied)
    done = subprocess.run(
        [*PIP, "--target", str(folder), str(copied)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def own(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, importable in this process."""
    monkeypatch.syspath_prepend(str(installed))
    return installed
