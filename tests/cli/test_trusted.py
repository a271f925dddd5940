"""``--trusted``: a large network in a small file, whose readers are told how to run it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from laconic.cli import main
from laconic.pack.graph.ops import make_node as node
from tests.attacks.files import constant, file_of


@pytest.fixture
def large(tmp_path: Path) -> str:
    path = tmp_path / "large.lac"
    path.write_bytes(
        file_of([(None, 2000)], [node("linear", (0, -1)), node("relu", (1,))], [constant("w", 1600, 2000)])
    )
    return str(path)


def test_a_file_that_needs_more_than_it_may_is_run_when_it_is_trusted(
    large: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", np.ones((1, 2000), np.float32))
    command = ["run", large, str(tmp_path / "x.npy"), "--out", str(tmp_path / "y.npy")]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "bytes of memory" in said
    assert said.endswith("Cure: if you trust the file, --trusted\n")
    assert main([*command, "--trusted"]) == 0
    assert np.load(tmp_path / "y.npy").shape == (1, 1600)


def test_all_that_read_a_file_take_it(large: str, capsys: pytest.CaptureFixture[str]) -> None:
    own = "tests.cli.test_trusted:ones"
    for command in (
        ["inspect", large],
        ["export", large, str(Path(large).with_suffix(".onnx"))],
        ["cost", large, "--input", "2000"],
        ["bench", large, "--engine", "onnxruntime", "--batch", "1"],
        ["verify", large, "--data", own],
    ):
        assert main(command) == 2
        assert "--trusted" in capsys.readouterr().err
        assert main([*command, "--trusted"]) == 0


def ones() -> tuple[np.ndarray, np.ndarray]:
    """A test set of one example."""
    return np.ones((1, 2000), np.float32), np.zeros(1, np.int64)
