"""One's own network and data on the command line, and run files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from laconic.cli import main

_OWN = '''
import numpy as np
import torch
from torch import nn


class Branching(nn.Module):
    """Its path depends on the values: no graph."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 3), nn.Linear(5, 3)

    def forward(self, x):
        return self.a(x) if bool((x.sum() > 1e6).item()) else self.b(x)


def plain():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))


def branching():
    torch.manual_seed(0)
    return Branching()


def nothing():
    return 7


def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(90, 5, generator=generator)
    y = x[:, :3].argmax(1)
    cut = lambda a, b: [(x[k : k + 10], y[k : k + 10]) for k in range(a, b, 10)]
    return cut(0, 50), cut(50, 70), cut(70, 90)


def test_set():
    x, y = zip(*data()[2])
    return torch.cat(x).numpy(), torch.cat(y).numpy()


def one_loader():
    return data()[0]
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A module of the user's own in the current folder."""
    name = f"own_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(_OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


def test_ones_own_network_and_data(own: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.toml").write_text(
        f'model = "{own}:plain"\ndata = "{own}:data"\nmethod = "magnitude"\nseed = 3\nthreads = 1\n'
        "[settings]\nsparsity = 0.25\nfit.epochs = 2\n[settings.grid]\nsteps = [1.0]\n"
    )
    torch.set_num_threads(2)
    assert main(["compress", "--config", "run.toml", "--out", "run", "--set", "fit.lr=0.002"]) == 0
    assert torch.get_num_threads() == 1
    record = json.loads(Path("run/record.json").read_text())
    assert record["seed"] == 3
    (stage,) = record["settings"]["stages"]
    assert stage["method_settings"]["sparsity"] == 0.25
    assert stage["method_settings"]["grid"]["steps"] == [1.0]
    assert (stage["fit"]["lr"], stage["fit"]["epochs"]) == (0.002, 2)
    assert record["metrics"]["test_terms"] == 20
    capsys.readouterr()
    assert main(["verify", "run/model.lac", "--data", f"{own}:test_set", "--json"]) == 0
    arrays = json.loads(capsys.readouterr().out)
    assert (arrays["value"], arrays["set"]) == (record["metrics"]["test_metric"], "test")
    assert main(["verify", "run/model.lac", "--data", f"{own}:data", "--json"]) == 0
    loaders = json.loads(capsys.readouterr().out)  # what compress --data took
    assert {**loaders, "torch_imported": arrays["torch_imported"]} == arrays


def test_a_network_without_a_graph_is_saved_and_the_user_is_told(
    own: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compress", "--model", f"{own}:branching", "--data", f"{own}:data", "--method", "magnitude"]
    assert (
        main([*words, "--out", "run", "--set", "fit.epochs=1", "--set", "sparsity=0.2", "--threads", "1"])
        == 0
    )
    out = capsys.readouterr().out
    assert "note: " in out
    assert "the file holds weights only; load them with laconic.restore(path, into=module)" in out
    record = json.loads(Path("run/record.json").read_text())
    assert any("weights only" in note for note in record["notes"])
    assert "test_metric" in record["metrics"]
    np.save("x.npy", np.zeros((1, 5), np.float32))
    for words in (
        ["run", "run/model.lac", "x.npy"],
        ["verify", "run/model.lac", "--data", f"{own}:test_set"],
    ):
        assert main(words) == 2
        assert "WeightsOnlyError" in capsys.readouterr().err
    assert main(["inspect", "run/model.lac"]) == 0


def test_what_ones_own_functions_must_return(own: str, capsys: pytest.CaptureFixture[str]) -> None:
    cases = [
        ([f"{own}:nothing", f"{own}:data"], "returned an object of type int. Cure: return a torch.nn.Module"),
        ([f"{own}:plain", f"{own}:one_loader"], "should return (train, validation)"),
        ([f"{own}:plain", f"{own}:absent"], "has no absent. Cure: one of "),
        (["no_such_module:plain", f"{own}:data"], "No module named 'no_such_module'"),
        ([f"{own}:plain", "minst"], "no data set is called 'minst'"),
        ([":plain", f"{own}:data"], "should read package.module:function"),
    ]
    for (model, data), complaint in cases:
        assert main(["compress", "--model", model, "--data", data, "--out", "same"]) == 2
        err = capsys.readouterr().err
        assert complaint in err
        assert err.strip().splitlines()[-1].startswith("laconic: ")


def test_a_class_of_posteriors_is_no_family(capsys: pytest.CaptureFixture[str]) -> None:
    own = "posterior=laconic.bayes.posteriors:Gaussian"
    assert main(["compress", "digits-mlp", "--out", "no-such-run", "--set", own]) == 2
    told = "posterior laconic.bayes.posteriors:Gaussian: Gaussian is no family of them. Cure: a function"
    assert told in capsys.readouterr().err
