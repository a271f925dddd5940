"""A missed target, runs of several stages, and what is shown on the way."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

import laconic
from laconic.cli import main
from laconic.errors import DataError, InputError
from laconic.methods import Distillation, GridChoice, MagnitudePruning, NoCompression, SparseVD, Target
from laconic.train.fit import FitConfig
from tests.helpers.commands import compress

FEW = ["--set", "reference.epochs=2", "--set", "fit.epochs=2", "--no-picture"]


def test_a_missed_target_is_status_3_and_the_last_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for method, knob in (("magnitude", "a higher sparsity"), ("taylor", "a smaller macs")):
        words = [*compress(method, tmp_path / method), *FEW, "--target", "50B"]
        assert main(words) == 3
        out = capsys.readouterr().out
        last = out.splitlines()[-1]
        assert last.startswith("target missed: the file has ")
        assert "the fewest that the listed grids reach (steps up to 1.4), with a validation error of " in last
        assert "; 50 were asked for" in last
        assert last.endswith(f"Cure: {knob}, coarser grid.steps, or longer training")
        assert out.count("target missed") == 1
        record = json.loads((tmp_path / method / "record.json").read_text())
        assert record["notes"][-1] == last
        assert main([*words, "--resume"]) == 3
        assert capsys.readouterr().out.splitlines()[-1] == last
    assert main([*compress("magnitude", tmp_path / "met"), *FEW, "--target", "1MB"]) == 0


def test_stages_of_a_run_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.toml").write_text(
        """
network = "digits-mlp"
out = "run"
threads = 1
[settings]
reference.epochs = 2
[[stage]]
method = "distillation"
temperature = 2.0
fit.epochs = 1
[[stage]]
method = "magnitude"
sparsity = 0.5
grid.steps = [1.0]
fit.epochs = 1
every = 5
[[stage]]
method = "magnitude"
sparsity = 0.8
rewind_to = 0
fit.epochs = 2
fit.optimizer = "sgd"
"""
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LACONIC_PROGRESS", "0")
    status = main(["compress", "--config", "run.toml", "--no-picture", "--resume"])
    said = capsys.readouterr()
    assert (status, said.err) == (0, "")  # LACONIC_PROGRESS=0: no training lines either
    record = json.loads(Path("run/record.json").read_text())
    stages = record["settings"]["stages"]
    assert [s["method"] for s in stages] == ["Distillation", "MagnitudePruning", "MagnitudePruning"]
    assert [s["rewind_to"] for s in stages] == [None, None, 0]
    assert stages[2]["fit"]["optimizer"]["kind"] == "SGD"
    assert [facts.get("temperature") for facts in record["facts"]["stages"]] == [2.0, None]
    assert main(["verify", "run/model.lac", "--data", "digits", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["value"] == record["metrics"]["test_metric"]


def test_settings_of_a_method_must_say_of_which_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    two = 'network = "digits-mlp"\n[[stage]]\nmethod = "vnq"\n[[stage]]\nmethod = "magnitude"\n'
    for text, flags, said in (
        (two, ["--set", "sparsity=0.5"], "this run has several. Cure: stage1.sparsity"),
        (two, ["--set", "stage3.sparsity=0.5"], "this run has 2 stages. Cure: stage2.sparsity=0.5"),
        (two, ["--set", "seed=3"], "there is no setting 'seed' (from seed=3). Cure: --seed 3"),
        (two, ["--method", "taylor"], "a run has either a method or stages"),
        (two, ["--set", "stage2.sparsty=0.5"], "no setting 'sparsty'"),
        ('network = "digits-mlp"\nstage = 3', [], "stage must be a list of tables. Cure: a line [[stage]]"),
        ('network = "digits-mlp"\n[[stage]]\nfit.epochs = 3', [], "stage 1 names no method"),
        (two + "rewind_to = -1", [], "rewind_to of stage 2 is an epoch of the first stage, got -1"),
        (two.replace("vnq", "vnk"), [], "there is no method 'vnk'. Cure: did you mean vnq?"),
    ):
        Path("run.toml").write_text(text)
        assert main(["compress", "--config", "run.toml", *flags]) == 2
        assert said in capsys.readouterr().err


def test_resume_where_nothing_is_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*compress("magnitude", tmp_path / "new"), *FEW, "--resume"]
    assert main(words) == 0
    err = capsys.readouterr().err
    assert f"{tmp_path / 'new'} holds nothing to go on with: a new run begins" in err


def test_a_task_in_the_command_line_is_the_run_s(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*compress("magnitude", tmp_path / "run"), *FEW, "--set", "task.ignore=9"]
    assert main(words) == 0
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert record["settings"]["task"]["ignore"] == 9
    assert record["metrics"]["test_terms"] < 360
    capsys.readouterr()
    assert main([*compress("magnitude", tmp_path / "other"), *FEW, "--task", "segmentation"]) == 2
    err = capsys.readouterr().err
    assert "Segmentation takes outputs" in err and "outputs have 2 axes, not 3 or more" in err


def test_a_generator_in_python_is_refused_before_it_is_read() -> None:
    batches = [(torch.eye(4), torch.arange(4))]
    for train, validate, name in (
        ((b for b in batches), batches, "train"),
        (batches, iter(batches), "validate"),
    ):
        with pytest.raises(DataError, match=f"compress: {name}: .* which can be read only once.* Cure: list"):
            laconic.compress(torch.nn.Linear(4, 4), train, validate, MagnitudePruning(0.5))
    with pytest.raises(InputError, match="compress: validate: batches come from a int, which gives none"):
        laconic.compress(torch.nn.Linear(4, 4), batches, 3, MagnitudePruning(0.5))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("5KB", r"target 5KB met: the file has \d+ of at most 5000 bytes"),
        ("90%", r"target 90% met: validation error \d+\.\d\d % before, \d+\.\d\d % after"),
    ],
)
def test_a_met_target_is_the_last_line(
    text: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*compress("magnitude", tmp_path / "met"), *FEW, "--target", text]
    assert main(words) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(told, last)
    assert main([*words, "--resume"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == last


def test_a_missed_size_names_the_fewest_bytes_and_the_method_s_own_setting() -> None:
    batches = [(torch.eye(4), torch.arange(4))]
    for method, most, cure in (
        (SparseVD(), "1.4", "a higher kl_weight, coarser grid.steps, or longer training"),
        (NoCompression(grid=GridChoice()), "1.4", "a coarser grid.steps, or longer training"),
        (
            Distillation(method=MagnitudePruning(0.5, grid=GridChoice(steps=(0.5, 3.0)))),
            "3",
            "a higher method.sparsity, coarser method.grid.steps, or longer",
        ),
    ):
        with pytest.warns(UserWarning, match="target missed") as caught:
            small = laconic.compress(
                torch.nn.Linear(4, 4), batches, batches, method, Target(max_bytes=20), fit=FitConfig(epochs=1)
            )
        (note,) = small.facts["notes"][-1:]
        assert str(caught[-1].message) == note
        fewest = (
            rf"the fewest that the listed grids reach \(steps up to {re.escape(most)}\), with a validation"
        )
        assert re.match(rf"target missed: the file has \d+ bytes, {fewest}", note)
        assert f"Cure: {cure}" in note


def test_without_a_target_the_cure_is_an_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*compress("magnitude", tmp_path / "run"), *FEW, "--set", "sparsity=0.99"]
    assert main(words) == 0
    assert "no target was given. Cure: --target 0.3, a lower sparsity" in capsys.readouterr().out
