"""The wheel as a stranger installs it, in an environment without torch and constriction."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.helpers.fresh import run_fresh

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "tests" / "portability"
SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE")
COMPILED = {"_coder", "_adaptive", "_mixed", "_sparse", "_twobit", "_sweep", "_noise"}


def said(*command: str | Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources, so that nothing of the checkout's own builds gets in."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in SOURCES:
        shutil.copy(ROOT / name, folder)
    said(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder / "dist", folder)
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.mark.network
def test_the_wheel_serves_every_later_python_and_asks_for_no_more_than_it_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        needs = re.findall(
            r"^Requires-Dist: (\w+)(?!.*extra ==)", archive.read(metadata).decode(), re.MULTILINE
        )
        compiled = {Path(name).name.partition(".")[0] for name in archive.namelist() if ".abi3." in name}
    assert sorted(set(needs)) == ["numpy", "onnx", "onnxruntime"]
    assert compiled == COMPILED
    assert "-cp311-abi3-" in wheel.name


@pytest.mark.network
def test_the_wheel_reads_and_runs_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """Golden files are read as here; a file is run; the import takes at most half a second."""
    python = tmp_path / "bin" / "python"
    said(sys.executable, "-m", "venv", tmp_path)
    said(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel)
    packages = said(python, "-m", "pip", "list").lower()
    assert "torch" not in packages
    assert "constriction" not in packages
    assert said(python, "-I", SCRIPTS / "golden.py") == said(sys.executable, SCRIPTS / "golden.py")
    runs = [said(python, "-I", SCRIPTS / "predict.py") for _ in range(3)]
    assert all(str(tmp_path) in run for run in runs)
    assert min(float(run.split()[-5]) for run in runs) <= 0.5


def test_a_machine_without_onnx_runtime_reads_files_and_is_told_what_to_install() -> None:
    """Musl Linux and Macs with Intel's processors have no wheels of it."""
    code = f"""
import runpy, sys
for name in ("onnx", "onnxruntime"):
    sys.modules[name] = None  # importing it raises
from laconic.errors import EngineError
try:
    runpy.run_path({str(SCRIPTS / "predict.py")!r}, run_name="__main__")
except EngineError as error:
    print(error)
"""
    assert re.search(
        "takes the package onnx(runtime)?, which is not installed.*Cure: pip install", run_fresh(code)
    )
