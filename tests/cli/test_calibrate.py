"""``laconic compress --calibrate``: one's own network and inputs, no training."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from laconic.cli import main
from laconic.cli.arguments import make_parser
from laconic.cli.request import parse_request
from laconic.errors import InputError

_OWN = """
import torch
from torch import nn


def trained():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))


def _batches(seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(200, 6, generator=generator)
    return [x[:100], x[100:]]


def inputs():
    return _batches(1)


def with_labels():
    net = trained()
    return _batches(1), [(x, net(x).argmax(1)) for x in _batches(2)]


def three():
    return 1, 2, 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "calibrated_nets.py").write_text(_OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "calibrated_nets", raising=False)
    return "calibrated_nets"


def _compress(own: str, *more: str) -> int:
    few = ("--no-picture", "--out", "run", *(("--set", "trials=5") if "--calibrate" in more else ()))
    return main(["compress", "--model", f"{own}:trained", *few, *more])


def test_cures_are_options_that_help(own: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _compress(own, "--calibrate", f"{own}:inputs", "--target", "10B") == 3
    assert re.search(r"Cure: --target \d\d+B$", capsys.readouterr().out.strip())
    assert _compress(own, "--calibrate", f"{own}:inputs", "--target", "10B") == 2
    assert "holds a run already. Cure: name another folder with --out" in capsys.readouterr().err


def test_inputs_alone_give_a_file_within_the_target(own: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _compress(own, "--calibrate", f"{own}:inputs", "--target", "0.02nats") == 0
    shown = capsys.readouterr().out
    assert "target 0.02nats met:" in shown and "nats per term from the original's predictions" in shown
    record = json.loads(Path("run/record.json").read_text())
    assert record["metrics"]["divergence"] <= 0.02
    assert record["facts"]["bits_per_weight"] < 12
    assert Path("run/model.lac").stat().st_size == record["file_bytes"]
    assert f"on {record['facts']['divergence_examples']} inputs" in shown
    assert _compress(own, "--calibrate", f"{own}:inputs", "--target", "0.02nats") == 2
    again = capsys.readouterr().err
    assert "holds a run already. Cure: name another folder" in again and "--resume" not in again


def test_labels_beside_the_inputs_measure_a_drop(own: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _compress(own, "--calibrate", f"{own}:with_labels", "--target", "2pt") == 0
    assert "validation error 0.00 % before" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--calibrate", "OWN:inputs"), "--calibrate needs --target"),
        (
            ("--calibrate", "OWN:inputs", "--target", "2pt"),
            "labels only.*Cure: a --calibrate function.*0.01nats",
        ),
        (
            ("--calibrate", "OWN:inputs", "--target", "1kB", "--set", "fit.epochs=3"),
            "leave it out, or --data",
        ),
        (("--calibrate", "OWN:inputs", "--target", "1kB", "--preset", "demo"), "says how long to train"),
        (("--calibrate", "OWN:inputs", "--target", "1kB", "--method", "vnq"), "compresses without training"),
        (("--calibrate", "OWN:three", "--target", "1kB"), "should return batches"),
        (("--data", "digits", "--target", "0.01nats"), "does not measure how far predictions are"),
        (("--target", "1kB"), "--model needs --data.*or --calibrate"),
    ],
)
def test_what_cannot_be_is_refused(
    own: str, arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _compress(own, *(text.replace("OWN", own) for text in arguments)) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert re.search(says, told), told
    assert not Path("run").exists()


def test_a_run_without_training_is_not_resumed() -> None:
    given = [
        "compress",
        "--model",
        "a:b",
        "--calibrate",
        "a:c",
        "--target",
        "1kB",
        "--resume",
        "--out",
        "gone",
    ]
    with pytest.raises(InputError, match="keeps nothing to go on with"):
        parse_request(make_parser().parse_args(given))
