"""``--dynamic`` and ``--keep``: free axes of a labeller's inputs, parameters that stay as they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from laconic import pack
from laconic.cli import main
from laconic.runtime import load

LABELLER = """
import torch
from torch import nn

class Labeller(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 6)
        self.gru = nn.GRU(6, 8, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, ids):
        return self.head(self.gru(self.embedding(ids))[0])

def trained():
    torch.manual_seed(0)
    return Labeller()

def loaders():
    generator = torch.Generator().manual_seed(1)
    batches = []
    for length in (5, 5, 8):
        ids = torch.randint(0, 7, (16, length), generator=generator)
        batches.append((ids, ids % 3))
    return batches, batches[1:], batches[:1]
"""
RUN = """
model = "labeller:trained"
data = "labeller:loaders"
task = "sequence-labelling"
method = "magnitude"
threads = 1
picture = false
keep = ["head"]
out = "file"
[dynamic]
ids = {0 = "batch", 1 = "time"}
[settings]
sparsity = 0.3
fit.epochs = 1
"""
WORDS = [
    *(
        "compress",
        "--model",
        "labeller:trained",
        "--data",
        "labeller:loaders",
        "--task",
        "sequence-labelling",
    ),
    *("--method", "magnitude", "--set", "sparsity=0.3", "--set", "fit.epochs=1", "--threads", "1"),
    "--no-picture",
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "labeller.py").write_text(LABELLER)
    (tmp_path / "run.toml").write_text(RUN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "labeller", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_labeller_runs_on_any_length(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        [*WORDS, "--dynamic", "ids=0:batch,1:time", "--keep", "head", "--out", "flags"],
        ["compress", "--config", "run.toml"],
    ):
        assert main(words) == 0
    assert Path("flags/model.lac").read_bytes() == Path("file/model.lac").read_bytes()
    net = load("flags/model.lac")
    assert net.inputs[0].sizes == ("batch", "time")
    for batch, time in ((1, 3), (4, 11)):
        assert net(np.zeros((batch, time), np.int64)).shape == (batch, time, 3)
    assert json.loads(Path("flags/settings.json").read_text())["dynamic"] == {
        "ids": {"0": "batch", "1": "time"}
    }
    head = next(t for t in pack.read("flags/model.lac").tensors if t.name == "head.weight")
    assert type(head).__name__ == "RawTensor"
    assert json.loads(Path("flags/settings.json").read_text())["keep"] == ["head"]
    capsys.readouterr()
    assert main([*WORDS, "--out", "flags", "--resume", "--dynamic", "ids=0:batch"]) == 2
    assert "holds a run with dynamic.ids.1='time', not None" in capsys.readouterr().err


def test_axes_in_the_order_of_the_inputs(folder: Path) -> None:
    assert main([*WORDS, "--dynamic", "0:n,1:t", "--out", "order"]) == 0
    assert load("order/model.lac").inputs[0].sizes == ("n", "t")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["ids=batch"], "--dynamic 'ids=batch' names no axis by number and name. Cure: --dynamic INPUT=AXIS"),
        (["ids=0:"], "names no axis by number and name"),
        (["ids=0:a", "1:b"], "inputs are named in part"),
        (["ids=0:a", "ids=1:b"], "the input 'ids' is given twice"),
        (["idz=0:a"], "--dynamic names 'idz'; the example's inputs are ids"),
        (["0:a", "1:b"], "--dynamic must have one entry for each of ids"),
        (["0:a", "1:b"], "Cure: --dynamic ids=0:batch"),
    ],
)
def test_axes_that_are_not_understood(
    given: list[str], told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for text in given for word in ("--dynamic", text)]
    assert main([*WORDS, *words, "--out", "wrong"]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('dynamic = "x"', "dynamic: 'x' does not say which axes are free. Cure: --dynamic x=0:batch,1:time"),
        ("dynamic.x = 3", "dynamic: 3 does not say which axes are free"),
        ("dynamic.x = {a = 'b'}", "does not say which axes are free"),
        ('keep = "head"', "keep must be list, got 'head'. Cure: keep = [\"head\"]"),
        ("keep = [3]", "keep: [3] are no names of layers. Cure: --keep head"),
    ],
)
def test_lines_of_a_run_file_that_are_not_understood(
    line: str, told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("run.toml").write_text(f'network = "digits-mlp"\n{line}\n')
    assert main(["compress", "--config", "run.toml"]) == 2
    assert told in capsys.readouterr().err
