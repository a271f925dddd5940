from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from laconic import pack
from laconic.records import Graph, Node, PackedModel, ValueSpec
from tests.helpers.commands import compress, laconic


@pytest.fixture(scope="session")
def runs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def run(runs_folder: Path) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """One finished run."""
    return runs_folder / "sparse-vd", laconic(*compress("sparse-vd", runs_folder / "sparse-vd"))


@pytest.fixture(scope="session")
def model(run: tuple[Path, subprocess.CompletedProcess[str]]) -> str:
    return str(run[0] / "model.lac")


@pytest.fixture
def relu(tmp_path: Path) -> str:
    """A file whose network gives max(x, 0): a classifier of three classes that nobody had to train."""
    path = tmp_path / "relu.lac"
    graph = Graph((ValueSpec("float32", (None, 3)),), (Node("relu", (0,)),), (1,))
    pack.write(path, PackedModel((), graph))
    return str(path)
