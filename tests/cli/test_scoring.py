"""Scores are in the words of the task; what does not fit it is refused, and nothing is broadcast."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from laconic import pack
from laconic.cli import main
from laconic.cli.scoring import score_batches
from laconic.errors import DataError
from laconic.records import AnyArray, Graph, Node, PackedModel, ValueSpec

X = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]


def provide(monkeypatch: pytest.MonkeyPatch, found: object) -> None:
    """A module ``own`` whose function ``data`` returns what is to be scored."""
    module = ModuleType("own")
    module.data = lambda: found  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own", module)


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        (np.array([[0], [1], [2], [0]]), "InputError: "),
        (np.array([0.0, 1.0, 2.0, 0.0]), "labels on axis 0 alone must be integers"),
        (np.array([True, False, True, True]), "labels on axis 0 alone must be integers"),
        (np.array(1), "inputs (4, 3) and targets () differ in number. Cure"),
        (np.array([0, 1, 2]), "inputs (4, 3) and targets (3,) differ in number. Cure"),
        (np.array([0, 1, 2, 0, 1]), "inputs (4, 3) and targets (5,) differ in number. Cure"),
        (np.array([0, 1, 2, 3]), "label 3"),
        (np.array([0, 1, 2, -1]), "label -1"),
    ],
)
def test_verify_refuses_labels_that_cannot_be(
    labels: AnyArray,
    complaint: str,
    relu: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    provide(monkeypatch, (X, labels))
    assert main(["verify", relu, "--data", "own:data", "--json"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert complaint in said.err
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_verify_scores_any_whole_numbers(
    dtype: str, relu: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.array([0, 1, 2, 1], dtype)
    provide(monkeypatch, (X, labels))
    assert main(["verify", relu, "--data", "own:data", "--json"]) == 0
    score = json.loads(capsys.readouterr().out)
    assert (score["value"], score["terms"], score["unit"]) == (25.0, 4, "%")
    log_z = np.log(np.e + 2)
    assert score["nll"] == pytest.approx((3 * (log_z - 1) + log_z) / 4)


TASKS = {
    "regression": (["--set", "noise=0.5"], X + np.float32(0.5), "RMSE 0.5 over 12 values"),
    "multi-label": ([], (X > 0.5).astype(np.float32), "over 12 labels"),
    "segmentation": (["--set", "ignore=2"], np.array([0, 1, 2, 0]), "mean IoU"),
}


@pytest.mark.parametrize("task", TASKS)
def test_verify_speaks_the_words_of_the_task(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, targets, said = TASKS[task]
    shape = (None, 3, 2, 2) if task == "segmentation" else (None, 3)
    x = np.broadcast_to(X[:, :, None, None], (4, 3, 2, 2)).copy() if task == "segmentation" else X
    y = np.broadcast_to(targets[:, None, None], (4, 2, 2)).copy() if task == "segmentation" else targets
    graph = Graph((ValueSpec("float32", shape),), (Node("relu", (0,)),), (1,))
    pack.write(tmp_path / "m.lac", PackedModel((), graph))
    provide(monkeypatch, (x, y))
    words = ["verify", str(tmp_path / "m.lac"), "--data", "own:data", "--task", task, *settings]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert said in out
    assert "nats per term" in out
    if task == "segmentation":
        assert "over 12 pixels" in out  # four of the sixteen pixels are ignored


def test_verify_takes_what_compress_takes(
    relu: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right, wrong = [(X, np.array([0, 1, 2, 0]))], [(X, np.array([1, 0, 0, 1]))]
    for loaders, name, value in (
        ((wrong, wrong, right), "test", 0.0),
        ((wrong, right), "validation", 0.0),
        ((right, right, wrong), "test", 100.0),
        ((right, wrong, None), "validation", 100.0),
    ):
        provide(monkeypatch, loaders)
        assert main(["verify", relu, "--data", "own:data", "--json"]) == 0
        score = json.loads(capsys.readouterr().out)
        assert (score["set"], score["value"]) == (name, value)
    for found in (3, (right,), (right, right, iter(right)), (X, X, X), (right, right, 3)):
        provide(monkeypatch, found)
        assert main(["verify", relu, "--data", "own:data"]) == 2
        assert "--data own:data" in capsys.readouterr().err


def test_a_batch_of_names_and_a_noise_that_no_file_holds(
    relu: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    batches = [{"input": X, "y": X}]
    provide(monkeypatch, (batches, batches))
    words = ["verify", relu, "--data", "own:data", "--task", "regression", "--set", "target=y"]
    assert main([*words, "--set", "metric_name=r2"]) == 0
    out = capsys.readouterr().out
    assert "validation R2 1 over 12 values\n" in out  # a learnt noise: no nats


def test_no_batch_is_nothing_to_score(relu: str) -> None:
    with pytest.raises(DataError, match="the test set is empty"):
        score_batches(relu, [])
    with pytest.raises(DataError, match="there is nothing to measure"):
        score_batches(relu, [(X[:0], np.zeros(0, np.int64))])
