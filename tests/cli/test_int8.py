"""``compress --int8`` and ``verify --arithmetic``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from laconic import pack
from laconic.cli import main
from tests.helpers.commands import compress, laconic


def test_compress_calibrates_and_verify_emulates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    words = compress("magnitude", out)
    assert main([*words, "--set", "reference.epochs=2", "--set", "fit.epochs=2", "--int8"]) == 0
    assert "after, from the decoded file in int8" in capsys.readouterr().out
    graph = pack.read(out / "model.lac").graph
    assert graph is not None
    assert len(graph.ranges) == 3  # the input, between the two layers, the logits
    errors = {}
    for name in ("fp32", "int8", "int8-single", "int16", "ternary"):
        assert (
            main(["verify", str(out / "model.lac"), "--data", "digits", "--json", "--arithmetic", name]) == 0
        )
        score = json.loads(capsys.readouterr().out)
        errors[name] = score["value"]
        emulated = name != "fp32"
        assert score["arithmetic"].startswith(
            f"arithmetic: {name}, {'emulated' if emulated else 'as the runtime'}"
        )
    assert "multiplied: linear 'fc1.weight'" in score["arithmetic"]
    assert max(errors.values()) - min(errors.values()) < 1.5
    assert main(["export", str(out / "model.lac"), str(tmp_path / "m.onnx"), "--int8"]) == 0


def test_verify_needs_no_torch_for_any_arithmetic(model: str) -> None:
    done = laconic("verify", model, "--data", "digits", "--json", "--arithmetic", "fp32")
    assert json.loads(done.stdout)["torch_imported"] is False


def test_refusals(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", model, "--data", "digits", "--arithmetic", "int8"]) == 2
    assert "this file holds none. Cure: calibrate on some training batches" in capsys.readouterr().err
    assert main(["verify", model, "--data", "digits", "--arithmetic", "int7"]) == 2
    assert "no arithmetic is called 'int7'. Cure: one of fp32, int8," in capsys.readouterr().err
    assert main(["export", model, "m.onnx", "--int8"]) == 2
    assert "this file holds none" in capsys.readouterr().err
