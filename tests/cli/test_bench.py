"""``laconic bench``: which engines are compared, beside which original, and who won."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from laconic import pack
from laconic.cli import main
from laconic.pack.graph.ops import make_node
from laconic.records import Graph, IntTensor, PackedModel, UniformGrid, ValueSpec
from laconic.runtime import export_onnx
from laconic.runtime.engines import cache, choice, measure
from tests.helpers.fresh import run_fresh


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """One linear layer of 40x30, nine tenths of it zeros."""
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    q = ((rng.random((40, 30)) < 0.1) * rng.choice([-1, 1], (40, 30))).astype(np.int32)
    graph = Graph((ValueSpec("float32", (None, 30)),), (make_node("linear", (0, -1)),), (1,))
    path = tmp_path / "m.lac"
    pack.write(path, PackedModel((IntTensor("fc", q, UniformGrid(0.5)),), graph))
    return str(path)


def _lines(out: str, start: str) -> list[str]:
    return [line for line in out.splitlines() if line.startswith(start)]


def test_engines_side_by_side_and_a_verdict(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", model, "--batch", "2", "--engine", "onnxruntime", "sparse", "auto"]) == 0
    out = capsys.readouterr().out
    row = r"predict, batch 2 +\d+\.\d+ ms  \(\d+\.\d+ \.\. \d+\.\d+\)  "
    assert re.search(row + "onnxruntime", out)
    assert re.search(row + "sparse", out)
    assert "  auto: dense float32 in every layer, as onnxruntime" in out
    assert re.search(r"  sparse: fc 40x30, \d+ % zeros: sparse \(asked for\)", out)
    assert re.search(r"(onnxruntime|sparse) wins: \d+\.\d\dx over|too close to call", out)


def test_what_was_chosen_is_told(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "SMALL", 100)
    monkeypatch.setattr(
        measure, "fastest_calls", lambda calls: {n: 1e-6 if n == "4-bit" else 1e-3 for n in calls}
    )
    assert main(["bench", model, "--batch", "1", "--engine", "auto"]) == 0
    out = capsys.readouterr().out
    assert "  auto: fc 40x30" in out
    assert "4-bit (measured, us: dense 1000, sparse 1000, 4-bit 1)" in out
    assert "wins" not in out


def test_the_original_as_a_module_and_as_a_file(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bench_own.py").write_text(
        "import torch\n"
        "def network():\n    return torch.nn.Linear(30, 40)\n"
        "def wrong():\n    return torch.nn.Linear(31, 40)\n"
        "def number():\n    return 3\n"
    )
    export_onnx(model, "m.onnx")
    for original in ("bench_own:network", "m.onnx"):
        assert main(["bench", model, "--batch", "3", "--engine", "onnxruntime", "--original", original]) == 0
        out = capsys.readouterr().out
        assert _lines(out, "predict, batch 3")[1].endswith("original")
        assert " over " in out or "too close" in out
    for original, said in {
        "bench_own:wrong": "cannot run on the file's inputs: RuntimeError",
        "bench_own:number": "should return a torch module, got a int",
        "bench_own": "should be package.module:function or a .onnx file",
        "m.lac.onnx": "No such file",
        "bench_own.onnx": "is no ONNX network",
    }.items():
        (tmp_path / "bench_own.onnx").write_text("no")
        assert main(["bench", model, "--batch", "3", "--original", original]) == 2
        assert said in capsys.readouterr().err


def test_an_engine_that_is_none(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", model, "--engine", "tpu"]) == 2
    assert "no engine is called 'tpu'. Cure: one of auto, fastest" in capsys.readouterr().err


def test_no_torch_is_needed_but_for_an_original(model: str) -> None:
    code = f"""
from laconic.cli import main
print(main(["bench", {model!r}, "--batch", "400"]))
print(main(["bench", {model!r}, "--batch", "400", "--original", "a:b"]))
"""
    assert run_fresh(code, without_torch=True).splitlines()[-1] == "2"
