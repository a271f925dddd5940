"""``laconic compress`` and the commands that read its file, as a person runs them."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest

from laconic import pack
from laconic.cli import main
from laconic.data import load
from laconic.data.images import as_input
from laconic.runtime import load as load_runtime
from tests.helpers.commands import compress, laconic


def test_a_run_says_what_it_does_and_what_came_out(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    out, done = run
    assert done.returncode == 0, done.stderr
    line = (
        r"training 4/4  loss (\d+\.\d+) \(likelihood (\d+\.\d+) \+ penalty (\d+\.\d+)\), "
        r"\d+\.\d % zeros  \d+:\d\d elapsed, 0:00 left"
    )
    found = re.search(line, done.stderr)
    assert found
    loss, likelihood, penalty = map(float, found.groups())
    assert abs(loss - likelihood - penalty) < 2e-4
    assert "training the reference digits-mlp" in done.stderr
    size = (out / "model.lac").stat().st_size
    ratio = f"{19240 / size:.1f}x smaller than the original network's 19.2 kB of float32"
    assert done.stdout.count("x smaller") == done.stdout.count(ratio) == 1
    assert re.search(r"test error \d+\.\d\d % before, \d+\.\d\d % after, from the decoded file", done.stdout)
    assert str(out / "model.lac") in done.stdout
    assert size < 19240 / 5


def test_the_record_holds_settings_layers_and_the_error_from_the_file(
    run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    record = json.loads((run[0] / "record.json").read_text())
    (stage,) = record["settings"]["stages"]
    assert stage["fit"]["epochs"] == 4
    assert stage["method_settings"]["hold_from"] == 3.0
    assert record["settings"]["task"]["name"] == "Classification"
    assert record["facts"]["metric"] == {"name": "error", "unit": "%", "higher_is_better": False}
    assert [row["name"] for row in record["layers"]] == ["fc1.weight", "fc2.weight", "fc1.bias", "fc2.bias"]
    images = load("digits")
    logits = load_runtime(run[0] / "model.lac")(as_input(images.test_images, images.scale))
    wrong = int((np.asarray(logits).argmax(1) != images.test_labels).sum())
    assert record["metrics"]["test_metric"] == pytest.approx(100 * wrong / 360)


@pytest.mark.parametrize("method", ["vnq", "magnitude"])
def test_the_other_methods_run_too(
    method: str, runs_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(compress(method, runs_folder / method)) == 0
    record = json.loads((runs_folder / method / "record.json").read_text())
    assert record["metrics"]["test_metric"] < 60
    assert record["file_bytes"] == (runs_folder / method / "model.lac").stat().st_size < 19240 / 5
    if method == "vnq":
        assert all(row["levels"] <= 3 for row in record["layers"] if row["name"].endswith("weight"))
    assert "x smaller" in capsys.readouterr().out


def test_the_rows_of_inspect_add_up_to_the_files_length(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", model]) == 0
    lines = capsys.readouterr().out.splitlines()
    rule = [k for k, line in enumerate(lines) if set(line) == {"-"}]
    rows = [int(line.split()[-1]) for line in lines[rule[0] + 1 : rule[1]]]
    size = Path(model).stat().st_size
    assert sum(rows) == size == int(lines[rule[1] + 1].split()[-1])
    assert f"{size} bytes, 4810 weights" in lines[-2]
    assert lines[-1] == f"{19240 / size:.1f}x smaller than the original network's 19.2 kB of float32"
    assert max(map(len, lines[: rule[1] + 2])) == 80
    assert sum(row.bytes for row in pack.layout(Path(model).read_bytes())) == size


def test_verify_scores_the_file_without_torch(model: str) -> None:
    done = laconic("verify", model, "--data", "digits")
    assert done.returncode == 0, done.stderr
    assert "torch imported: no" in done.stdout
    assert re.search(r"test error \d+\.\d\d % over 360 examples, \d+\.\d{4} nats per term", done.stdout)


def test_verify_in_json_agrees_with_the_record(
    run: tuple[Path, subprocess.CompletedProcess[str]], model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", model, "--data", "digits", "--json"]) == 0
    score = json.loads(capsys.readouterr().out)
    metrics = json.loads((run[0] / "record.json").read_text())["metrics"]
    assert score["value"] == metrics["test_metric"]
    assert (score["metric"], score["unit"], score["terms"]) == ("error", "%", 360)
    assert score["nll"] == pytest.approx(metrics["test_nll"])
    assert score["bytes"] == Path(model).stat().st_size


def test_run_prints_or_saves_what_the_network_says(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = np.random.default_rng(0).random((3, 1, 8, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    assert main(["run", model, str(tmp_path / "x.npy"), "--out", str(tmp_path / "y.npy")]) == 0
    assert "float32 (3, 10)" in capsys.readouterr().out
    assert np.array_equal(np.load(tmp_path / "y.npy"), load_runtime(model)(x))
    assert main(["run", model, str(tmp_path / "x.npy")]) == 0
    assert capsys.readouterr().out.count("[") == 4


def test_bench_prints_times(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", model, "--batch", "2", "8"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"load \(decode \+ build\) +\d+\.\d+ ms +\(\d+\.\d+ \.\. \d+\.\d+\)", out)
    assert "predict, batch 2 " in out
    assert "predict, batch 8 " in out


def test_export_writes_onnx_that_the_checker_accepts(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", model, str(tmp_path / "model.onnx")]) == 0
    onnx.checker.check_model(str(tmp_path / "model.onnx"), full_check=True)
    assert f"{(tmp_path / 'model.onnx').stat().st_size} bytes" in capsys.readouterr().out


def test_a_finished_run_is_shown_again_and_not_run_over(
    run: tuple[Path, subprocess.CompletedProcess[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = run
    before = (out / "model.lac").read_bytes(), (out / "record.json").read_bytes()
    assert main([*compress("sparse-vd", out), "--resume"]) == 0
    assert "is finished already" in capsys.readouterr().err
    assert main(compress("sparse-vd", out)) == 2
    assert "holds a run already. Cure: --resume" in capsys.readouterr().err
    assert main([*compress("sparse-vd", out), "--resume", "--seed", "1"]) == 2
    err = capsys.readouterr().err
    assert "holds a run with reference.seed=0, not 1. Cure: resume with the same settings" in err
    assert main([*compress("sparse-vd", out), "--resume", "--set", "grid.max_nll_ratio=1.2"]) == 2
    err = capsys.readouterr().err
    assert "holds a run with stages.1.method_settings.grid.max_nll_ratio=1.08, not 1.2. Cure" in err
    assert main([*compress("sparse-vd", out), "--resume", "--set", "data.batch_size=16"]) == 2
    assert "data.batch_size=None, not 16" in capsys.readouterr().err
    assert ((out / "model.lac").read_bytes(), (out / "record.json").read_bytes()) == before
