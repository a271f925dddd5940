"""``--data FILE.npz``: what it must hold, how it is divided, and a run from one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from laconic.cli import main
from laconic.cli.data_files import Examples, parts_of
from laconic.cli.data_files import test_part as scored_part
from laconic.cli.readers import read_archive
from laconic.errors import DataError, InputError

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.random((210, 1, 8, 8), np.float32), np.arange(210) % 10


def _saved(path: Path, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return str(path)


def read_parts(name: str, seed: int) -> dict[str, Examples]:
    return parts_of(name, read_archive(name), seed)


def test_inputs_and_labels_alone_are_divided_by_the_seed(tmp_path: Path) -> None:
    name = _saved(tmp_path / "a.npz", x=X, y=Y.astype(np.uint8))
    parts = read_parts(name, seed=3)
    assert {part: len(found.inputs) for part, found in parts.items()} == {
        "train": 210 - 30 - 25,
        "test": 30,
        "validation": 25,
    }
    every = np.concatenate([found.inputs for found in parts.values()])
    assert sorted(every[:, 0, 0, 0].tolist()) == sorted(X[:, 0, 0, 0].tolist())
    row = {tuple(x.ravel()[:2]): int(y) for x, y in zip(X, Y, strict=True)}
    for found in parts.values():
        assert found.inputs.dtype == np.float32 and found.targets.dtype == np.int64
        assert [row[tuple(x.ravel()[:2])] for x in found.inputs] == found.targets.tolist()
    again, other = read_parts(name, seed=3), read_parts(name, seed=4)
    assert np.array_equal(again["test"].inputs, parts["test"].inputs)
    assert not np.array_equal(other["test"].inputs, parts["test"].inputs)
    assert (
        scored_part(name, read_archive(name))[0] == "x, y:"
        and len(scored_part(name, read_archive(name))[1].inputs) == 210
    )


def test_given_sets_stay_as_they_are(tmp_path: Path) -> None:
    one, two = {"x_train": X, "y_train": Y}, {"x_test": X[:9], "y_test": Y[:9]}
    parts = read_parts(_saved(tmp_path / "a.npz", **one, **two, x_val=X[:5], y_val=Y[:5]), 0)
    assert [len(parts[n].inputs) for n in ("train", "validation", "test")] == [210, 5, 9]
    parts = read_parts(_saved(tmp_path / "b.npz", **one, **two), 0)
    assert [len(parts[n].inputs) for n in ("train", "validation", "test")] == [180, 30, 9]
    assert scored_part("b.npz", read_archive(str(tmp_path / "b.npz")))[0] == "test"
    assert set(read_parts(_saved(tmp_path / "c.npz", **one), 0)) == {"train", "validation"}


@pytest.mark.parametrize(
    ("arrays", "kind", "said"),
    [
        (
            {"input_ids": X},
            InputError,
            "holds input_ids, and no labelled .* Cure: numpy.savez .* x_train",
        ),
        ({"x_test": X, "y_test": Y}, InputError, "no labelled training examples"),
        ({"x": X, "y": Y[:7]}, DataError, r"y the shape \(7,\). Cure: one target"),
        ({"x": X[:3], "y": Y[:3]}, DataError, "3 examples are too few"),
        ({"x": (255 * X).astype(np.uint8), "y": Y}, InputError, r"uint8.* Cure: x=images.*channels"),
        ({"x": X, "y": Y.astype("U1")}, InputError, "y is of type <U1"),
    ],
)
def test_what_a_file_lacks_is_told(tmp_path: Path, arrays: Any, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        read_parts(_saved(tmp_path / "a.npz", **arrays), 0)


def test_a_run_and_a_score_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, out = (
        _saved(tmp_path / "a.npz", x_train=X, y_train=Y, x_test=X[:20], y_test=Y[:20]),
        tmp_path / "run",
    )
    words = ["--method", "magnitude", "--preset", "demo", "--no-picture", "--set", "fit.epochs=1"]
    few = ["--set", "reference.epochs=1", "--set", "data.batch_size=60"]
    assert main(["compress", "digits-mlp", "--data", name, *words, *few, "--out", str(out)]) == 0
    record = json.loads((out / "record.json").read_text())
    assert record["metrics"]["test_terms"] == 20 and record["facts"]["data_size"] == 180
    capsys.readouterr()
    assert main(["verify", str(out / "model.lac"), "--data", name]) == 0
    said = capsys.readouterr().out
    assert f"test error {record['metrics']['test_metric']:.2f} % over 20 examples" in said
    assert "the original network's 19.2 kB" in said


def test_other_files_are_refused_before_torch_is_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "a.npy", X)
    for name, said in (
        (str(tmp_path / "a.npy"), "without labels. Cure: --calibrate"),
        (str(tmp_path / "none.npz"), "there is no such file"),
        (_saved(tmp_path / "b.npz", images=X), "holds images, and no labelled training examples"),
    ):
        assert main(["compress", "digits-mlp", "--data", name, "--out", str(tmp_path / "run")]) == 2
        assert said in capsys.readouterr().err and not (tmp_path / "run").exists()
