"""``compress --shrink`` and ``--method taylor``: physically smaller, told against the original's size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from laconic import pack
from laconic.cli import main
from tests.helpers.commands import compress

FEW = ["--set", "reference.epochs=2", "--set", "fit.epochs=3"]


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    return {t.name: t.values().shape for t in pack.read(path).tensors}


def test_shrink_removes_what_magnitude_left_dead(tmp_path: Path) -> None:
    runs = {}
    for name, flags in (("whole", []), ("shrunk", ["--shrink"])):
        words = compress("magnitude", tmp_path / name)
        assert main([*words, *FEW, "--set", "sparsity=0.97", *flags]) == 0
        runs[name] = json.loads((tmp_path / name / "record.json").read_text())
    whole, shrunk = (shapes(tmp_path / name / "model.lac") for name in runs)
    assert shrunk["fc1.weight"][0] == shrunk["fc2.weight"][1] < whole["fc1.weight"][0] == 64
    assert runs["whole"]["metrics"]["test_wrong"] == runs["shrunk"]["metrics"]["test_wrong"]
    assert runs["whole"]["bytes_before"] == runs["shrunk"]["bytes_before"] == 4 * 4810
    assert runs["shrunk"]["metrics"]["units_removed"] == 64 - shrunk["fc1.weight"][0]
    settings = [json.loads((tmp_path / name / "settings.json").read_text()) for name in runs]
    assert [s.get("shrink") for s in settings] == [None, True]


def test_taylor_is_told_against_the_original(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*compress("taylor", tmp_path / "run"), *FEW, "--set", "macs=0.4"]) == 0
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert record["bytes_before"] == 4 * 4810
    assert record["metrics"]["macs_after"] <= 0.4 * record["metrics"]["macs_before"]
    assert f"{4 * 4810} -> " in capsys.readouterr().out
