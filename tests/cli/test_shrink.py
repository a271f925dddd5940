"""``compress --shrink`` and pruning of units: physically smaller, told against the original's size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from laconic import pack
from laconic.cli import main
from laconic.cli.choices import make_job
from laconic.cli.request import Request, StageRequest
from laconic.errors import InputError
from laconic.schedules import Cubic, Iterative, OneShot
from tests.helpers.commands import compress

FEW = ["--set", "reference.epochs=2", "--set", "fit.epochs=3"]


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    return {t.name: t.values().shape for t in pack.read(path).tensors}


def test_shrink_removes_what_magnitude_left_dead(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = {}
    for name, flags in (("whole", []), ("shrunk", ["--shrink"])):
        words = compress("magnitude", tmp_path / name)
        assert main([*words, *FEW, "--set", "sparsity=0.97", *flags]) == 0
        runs[name] = json.loads((tmp_path / name / "record.json").read_text())
    whole, shrunk = (shapes(tmp_path / name / "model.lac") for name in runs)
    assert shrunk["fc1.weight"][0] == shrunk["fc2.weight"][1] < whole["fc1.weight"][0] == 64
    assert runs["whole"]["metrics"]["test_metric"] == runs["shrunk"]["metrics"]["test_metric"]
    assert runs["whole"]["bytes_before"] == runs["shrunk"]["bytes_before"] == 4 * 4810
    assert runs["shrunk"]["metrics"]["units_removed"] == 64 - shrunk["fc1.weight"][0]
    assert runs["shrunk"]["facts"]["units"] == {"fc1": [64, shrunk["fc1.weight"][0]]}
    said = capsys.readouterr().out
    assert said.count("units:") == said.count(f"\nunits: fc1 64 -> {shrunk['fc1.weight'][0]}\n") == 1
    settings = [json.loads((tmp_path / name / "settings.json").read_text()) for name in runs]
    assert [s.get("shrink") for s in settings] == [None, True]


def test_taylor_is_told_against_the_original(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*compress("taylor", tmp_path / "run"), *FEW, "--set", "macs=0.4"]) == 0
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert record["bytes_before"] == 4 * 4810
    assert record["metrics"]["macs_after"] <= 0.4 * record["metrics"]["macs_before"]
    assert "x smaller than the original network's 19.2 kB of float32" in capsys.readouterr().out


def test_a_schedule_has_a_name_at_the_command_line(tmp_path: Path) -> None:
    words = ["--set", "schedule=iterative", "--set", "schedule.rounds=2", "--set", "macs=0.4"]
    assert main([*compress("apoz", tmp_path / "run"), *FEW, *words]) == 0
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    (stage,) = record["settings"]["stages"]
    assert stage["method"] == "NetworkTrimming"
    schedule = stage["method_settings"]["schedule"]
    assert schedule == {"kind": "Iterative", "rounds": 2, "start": 0.0, "end": 0.6}
    assert record["metrics"]["macs_after"] <= 0.4 * record["metrics"]["macs_before"]


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, Iterative(5)),
        ({"schedule.end": 0.8}, Iterative(5, end=0.8)),
        ({"schedule": "one-shot"}, OneShot()),
        ({"schedule": "cubic", "schedule.start": 0.7, "schedule.end": 0.9}, Cubic(0.7, 0.9)),
    ],
)
def test_schedules_by_name(settings: dict[str, Any], wanted: object) -> None:
    assert method_of("apoz", settings).schedule == wanted
    if "schedule" in settings:
        for method in ("taylor", "magnitude"):
            assert method_of(method, settings).schedule == wanted


def method_of(method: str, settings: dict[str, Any]) -> Any:
    stages = (StageRequest(method, settings),)
    return make_job(Request(None, "a:b", "c:d", stages, None, 0, Path("run"))).stages[0].method


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"schedule": "line"}, "there is no schedule 'line'. Cure: did you mean linear"),
        ({"schedule": "one-shot", "schedule.rounds": 3}, "OneShot has no setting 'rounds'.*one of at"),
        ({"schedule": "one-shot", "schedule.at": 1.5}, "at is a share of training"),
        ({"schedule.rounds": "many"}, "schedule.rounds: expected int, got 'many'"),
    ],
)
def test_schedules_that_cannot_be(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        method_of("apoz", settings)
