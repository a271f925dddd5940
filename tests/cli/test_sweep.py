"""A sweep: which runs there are, that all are checked first, and what is told of them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from laconic.cli import main
from laconic.cli.arguments import make_parser
from laconic.cli.sweep import combinations, run_sweep
from laconic.errors import InputError

WORDS = ["digits-mlp", "--preset", "demo", "--set", "fit.epochs=1"]


def arguments(folder: Path, *vary: str) -> argparse.Namespace:
    options = [word for text in vary for word in ("--vary", text)]
    parsed: argparse.Namespace = make_parser().parse_args(
        ["sweep", *options, "--out", str(folder), "--", *WORDS]
    )
    return parsed


def recording(done: list[argparse.Namespace], status: int = 0) -> Any:
    """In the place of a compression: a record whose size and error follow from the settings."""

    def compress(given: argparse.Namespace) -> int:
        done.append(given)
        settings = dict(text.split("=") for text in given.set)
        weight, threshold = float(settings["kl_weight"]), float(settings.get("threshold", 3))
        folder = Path(given.out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "settings.json").write_text("{}")
        record = {
            "facts": {"metric": {"name": "error", "unit": "%", "higher_is_better": False}},
            "file_bytes": round(1000 / weight + 10 * threshold),
            "metrics": {"validation_metric": weight + threshold, "validation_nll": 0.5, "test_metric": 9.0},
        }
        (folder / "record.json").write_text(json.dumps(record))
        return status

    return compress


def test_every_combination_is_a_run_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done: list[argparse.Namespace] = []
    given = arguments(tmp_path, "kl_weight=1,2", "threshold=2,3")
    assert run_sweep(given, recording(done)) == 0
    assert [each.set for each in done] == [
        ["fit.epochs=1", f"kl_weight={k}", f"threshold={t}"] for k in (1, 2) for t in (2, 3)
    ]
    assert {each.network for each in done} == {"digits-mlp"} and not any(each.resume for each in done)
    rows = (tmp_path / "sweep.md").read_text().splitlines()[2:]
    assert rows[0].startswith("| kl_weight=2,threshold=2 | 520 | 4.00 % | 0.5000 | * |")
    assert [row.endswith("| * |") for row in rows] == [True, False, True, False]
    assert len(json.loads((tmp_path / "sweep.json").read_text())) == 4
    assert "kl_weight=1,threshold=3" in capsys.readouterr().out
    pytest.importorskip("matplotlib")
    assert (tmp_path / "sweep.png").read_bytes()[1:4] == b"PNG"


def test_a_second_sweep_goes_on_with_its_runs(tmp_path: Path) -> None:
    run_sweep(arguments(tmp_path, "kl_weight=1"), recording([]))
    done: list[argparse.Namespace] = []
    assert run_sweep(arguments(tmp_path, "kl_weight=1,4"), recording(done)) == 0
    assert [each.resume for each in done] == [True, False]


def test_a_missed_target_is_a_point_and_a_failed_run_ends_the_sweep(tmp_path: Path) -> None:
    assert run_sweep(arguments(tmp_path / "a", "kl_weight=1,2"), recording([], status=3)) == 0
    done: list[argparse.Namespace] = []
    assert run_sweep(arguments(tmp_path / "b", "kl_weight=1,2"), recording(done, status=130)) == 130
    assert len(done) == 1 and not (tmp_path / "b" / "sweep.md").exists()


def test_all_settings_are_checked_before_the_first_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sweep", "--vary", "kl_weight=1,2", "--vary", "kl_wait=1", "--out", str(tmp_path), "--", *WORDS]
    assert main(words) == 2
    assert "kl_weight" in capsys.readouterr().err and not list(tmp_path.iterdir())
    assert main([*words[:3], "--out", str(tmp_path), "--", *WORDS, "--out", "there"]) == 2
    assert "before the --" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("vary", "told"),
    [
        (["kl_weight"], "KEY=VALUE"),
        (["kl_weight=1,,2"], "KEY=VALUE"),
        (["kl_weight=1,1"], "each value once"),
        (["kl_weight=1,2,1.0"], r"has 1 and 1\.0, which are one value,\. Cure: each value once"),
        (["grid.steps=[0.5,1],[0.50, 1.0]"], "which are one value"),
        (["shared=true,True"], "which are one value"),
        (["kl_weight=1", "kl_weight=2"], "a setting twice"),
    ],
)
def test_what_cannot_be_meant_is_refused(vary: list[str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        list(combinations(vary))


def test_a_truth_value_is_no_number_and_lists_are_compared_whole() -> None:
    assert len(list(combinations(["learned=1,true,[1, 2],[1, 3],none"]))) == 5
