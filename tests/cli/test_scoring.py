"""Scores are of classifiers on class indices; everything else is refused, and nothing is broadcast."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from laconic import pack
from laconic.cli import main
from laconic.cli.scoring import score_batches
from laconic.errors import DataError
from laconic.records import AnyArray, Graph, Node, PackedModel, ValueSpec

X = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        (np.array([[0], [1], [2], [0]]), "labels must be whole numbers (N,), got int64 (4, 1). Cure"),
        (
            np.eye(3, dtype=np.int64)[[0, 1, 2, 0]],
            "labels must be whole numbers (N,), got int64 (4, 3). Cure",
        ),
        (np.array([0.0, 1.0, 2.0, 0.0]), "labels must be whole numbers (N,), got float64 (4,). Cure"),
        (np.array([True, False, True, True]), "labels must be whole numbers (N,), got bool (4,). Cure"),
        (np.array(["0", "1", "2", "0"]), "labels must be whole numbers (N,), got <U1 (4,). Cure"),
        (np.array(1), "labels must be whole numbers (N,), got int64 (). Cure"),
        (np.array([0, 1, 2]), "inputs (4, 3) and labels (3,) differ in number. Cure"),
        (np.array([0, 1, 2, 0, 1]), "inputs (4, 3) and labels (5,) differ in number. Cure"),
        (np.array([0, 1, 2, 3]), "label 3 is out of range for a network with 3 outputs (0..2). Cure"),
        (np.array([0, 1, 2, -1]), "label -1 is out of range for a network with 3 outputs (0..2). Cure"),
    ],
)
def test_verify_refuses_labels_that_cannot_be(
    labels: AnyArray,
    complaint: str,
    relu: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("laconic.cli.own.own_function", lambda text, flag: lambda: (X, labels))
    assert main(["verify", relu, "--data", "own:data", "--json"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"laconic: DataError: {complaint}" in said.err


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_verify_scores_any_whole_numbers(
    dtype: str, relu: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.array([0, 1, 2, 1], dtype)
    monkeypatch.setattr("laconic.cli.own.own_function", lambda text, flag: lambda: (X, labels))
    assert main(["verify", relu, "--data", "own:data", "--json"]) == 0
    score = json.loads(capsys.readouterr().out)
    assert (score["wrong"], score["examples"]) == (1, 4)
    log_z = np.log(np.e + 2)
    assert score["nll"] == pytest.approx((3 * (log_z - 1) + log_z) / 4)


def test_inputs_without_a_batch_dimension(relu: str) -> None:
    with pytest.raises(DataError, match="differ in number"):
        score_batches(relu, [(np.array(1, np.float32), np.array([1]))])


@pytest.mark.parametrize(
    ("shape", "outputs", "complaint"),
    [
        ((None,), (1,), r"gives \(2,\) for 2 inputs, not \(batch, classes\)\. Cure"),
        ((None, 3, 4), (1,), r"gives \(2, 3, 4\) for 2 inputs, not \(batch, classes\)\. Cure"),
        ((None, 3), (1, 1), r"has 2 outputs\. Cure"),
    ],
)
def test_only_classifiers_are_scored(
    shape: tuple[int | None, ...], outputs: tuple[int, ...], complaint: str, tmp_path: Path
) -> None:
    graph = Graph((ValueSpec("float32", shape),), (Node("relu", (0,)),), outputs)
    pack.write(tmp_path / "m.lac", PackedModel((), graph))
    x = np.zeros([2 if n is None else n for n in shape], np.float32)
    with pytest.raises(DataError, match=complaint):
        score_batches(tmp_path / "m.lac", [(x, np.array([0, 1]))])


def test_no_batch_is_nothing_to_score(relu: str) -> None:
    for batches in ([], [(X[:0], np.zeros(0, np.int64))]):
        with pytest.raises(DataError, match="the test set is empty"):
            score_batches(relu, batches)
