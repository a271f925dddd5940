"""An installed package's method and task, by name and by place, at the command line and in a run file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from laconic.cli import main

GRADES = '''
"""Digits as grades 0 to 9, and a network that tells how high a grade is."""
import torch
from torch import nn

from laconic.tasks import make_task
from laconic.testing.methods import digits
from laconic.train.fit import FitConfig, Hooks, fit


def loaders():
    x, y = digits()
    batches = [(x[i : i + 32], y[i : i + 32]) for i in range(0, 192, 32)]
    return batches[:4], batches[4:]


def model():
    torch.manual_seed(0)
    net, task = nn.Sequential(nn.Flatten(), nn.Linear(64, 9)), make_task("ordinal")
    fit(net, loaders()[0], FitConfig(10, lr=1e-2), Hooks.plain(net, task), task=task)
    return net
'''
RUN_FILE = """
model = "grades:model"
data = "grades:loaders"
task = "ordinal"
target = "1.5"

[[stage]]
method = "laplace-vi"
init_log_var = -6.0
fit.epochs = 2

[[stage]]
method = "magnitude"
sparsity = 0.5
fit.epochs = 2
"""
GIVEN = ["--model", "grades:model", "--data", "grades:loaders", "--threads", "1", "--no-picture"]


@pytest.fixture
def folder(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network and data of one's own, which commands run in."""
    (tmp_path / "grades.py").write_text(GRADES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("method", "task"),
    [
        ("laplace-vi", "ordinal"),
        ("ordinal_laplace.laplace_vi:LaplaceVI", "ordinal_laplace.ordinal:OrdinalRegression"),
    ],
    ids=["by name", "by place"],
)
def test_compress_and_verify(
    method: str, task: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compress", *GIVEN, "--method", method, "--task", task, "--set", "threshold=0.5"]
    assert main([*words, "--set", "fit.epochs=2", "--out", "run"]) == 0
    record = json.loads((folder / "run" / "record.json").read_text())
    (stage,) = record["settings"]["stages"]
    assert stage["method"] == "LaplaceVI"
    assert stage["method_settings"]["threshold"] == 0.5
    assert record["facts"]["metric"]["name"] == "mean rank error"
    capsys.readouterr()
    assert main(["verify", "run/model.lac", "--data", "grades:loaders", "--task", task]) == 0
    said = capsys.readouterr().out
    assert "validation mean rank error" in said
    assert f"{record['facts']['validation_metric']:.4g} ranks" in said


def test_a_run_file_of_two_stages(folder: Path) -> None:
    (folder / "run.toml").write_text(RUN_FILE)
    assert main(["compress", "--config", "run.toml", "--threads", "1", "--no-picture", "--out", "run"]) == 0
    record = json.loads((folder / "run" / "record.json").read_text())
    assert [stage["method"] for stage in record["settings"]["stages"]] == ["LaplaceVI", "MagnitudePruning"]
    assert len(record["facts"]["stages"]) == 1
    before, after = (record["facts"][f"{n}validation_metric"] for n in ("original_", ""))
    assert after - before <= 1.5


@pytest.mark.parametrize(
    ("prior", "posterior"),
    [
        ("my-laplace", "laplace"),
        ("ordinal_laplace.laplace:Laplace", "ordinal_laplace.laplace_posterior:LaplaceFamily"),
    ],
    ids=["by name", "by place"],
)
@pytest.mark.parametrize("run_file", [False, True], ids=["command line", "run file"])
def test_sparse_vd_with_the_prior_and_the_posterior(
    prior: str, posterior: str, run_file: bool, folder: Path
) -> None:
    """Both have settings of their own, which the record keeps."""
    words = ["--model", "grades:model", "--data", "grades:loaders", "--task", "ordinal"]
    settings = {
        "prior": prior, "prior.scale": 0.1, "posterior": posterior, "posterior.init_log_scale": -5.0,
        "fit.epochs": 1,
    }  # fmt: skip
    if run_file:
        lines = [f"{key} = {value!r}" for key, value in settings.items() if key not in ("prior", "posterior")]
        lines += [f"prior.name = {prior!r}", f"posterior.name = {posterior!r}"]
        head = 'model = "grades:model"\ndata = "grades:loaders"\ntask = "ordinal"\n[settings]\n'
        (folder / "run.toml").write_text(head + "\n".join(lines))
        words = ["--config", "run.toml"]
    else:
        words += [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    assert main(["compress", *words, "--threads", "1", "--no-picture", "--out", "run"]) == 0
    (stage,) = json.loads((folder / "run" / "record.json").read_text())["settings"]["stages"]
    told = json.dumps(stage["method_settings"])
    assert '"scale": 0.1' in told
    assert '"init_log_scale": -5.0' in told


def test_they_are_listed_with_their_fields(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods"]) == 0
    assert main(["tasks"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert "laplace-vi" in listed
    assert "ordinal" in listed
    assert main(["methods", "laplace-vi"]) == 0
    assert "threshold = 1.0" in capsys.readouterr().out
    assert main(["priors", "my-laplace"]) == main(["posteriors", "laplace"]) == 0
    out = capsys.readouterr().out
    assert "scale = 0.05" in out
    assert "init_log_scale = -4.0" in out


def test_a_misspelt_name_is_told(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compress", "digits-mlp", "--method", "laplace-iv"]) == 2
    assert "did you mean laplace-vi?" in capsys.readouterr().err
    assert main(["compress", "digits-mlp", "--task", "ordnal"]) == 2
    assert "did you mean ordinal?" in capsys.readouterr().err
