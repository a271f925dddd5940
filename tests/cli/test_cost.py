"""``laconic cost``: does it fit, how long, how much energy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from laconic import pack
from laconic.cli import main
from laconic.records import ActivationRange, Graph, Node, PackedModel, RawTensor, ValueSpec
from tests.helpers.fresh import run_fresh


@pytest.fixture
def conv(tmp_path: Path) -> str:
    """A convolution of 3 x 3 on one map of 8 x 8, and a ReLU."""
    path = tmp_path / "conv.lac"
    weight = RawTensor("stem.weight", np.ones((4, 1, 3, 3), np.float32))
    nodes = (Node("conv", (0, -1)), Node("relu", (1,)))
    pack.write(path, PackedModel((weight,), Graph((ValueSpec("float32", (None, 1, 8, 8)),), nodes, (2,))))
    return str(path)


def test_text(conv: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", conv, "--device", "cortex-m7"]) == 0
    out = capsys.readouterr().out
    assert "stem" in out
    assert "MACs: 1296 at 32x32 bits; peak activations: 832 bytes" in out
    assert "Cortex-M7 (STM32F746, 216 MHz)" in out
    assert "fits: weights take 144 of 1048576 bytes of flash, 1048432 bytes to spare" in out
    assert "fits: activations take 832 of 327680 bytes of SRAM" in out
    assert "latency, estimated: " in out
    assert "energy, estimated: " in out
    assert "measured" not in out


def test_json_adds_up(conv: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", conv, "--device", "cortex-m4f", "--batch", "3", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["file"] == conv
    assert data["input_shapes"] == [[3, 1, 8, 8]]
    assert data["macs"] == sum(layer["macs"] for layer in data["layers"]) == 3 * 1296
    rows = data["estimated"]["layers"]
    assert data["estimated"]["seconds"] == sum(row["seconds"] for row in rows)
    total = sum(row["arithmetic_fj"] + row["memory_fj"] for row in rows)
    assert data["estimated"]["table_joules"] == total * 1e-15
    assert data["estimated"]["fits_all"] is True


@pytest.mark.parametrize(
    ("words", "batch"),
    [
        ([], 1),
        (["--batch", "2"], 2),
        (["--input", "1x8x8"], 1),
        (["--input", "1x8x8", "--batch", "5"], 5),
        (["--input", "4X1X8X8"], 4),
    ],
)
def test_shapes(words: list[str], batch: int, conv: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", conv, "--json", *words]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["input_shapes"] == [[batch, 1, 8, 8]]
    assert data["estimated"] is None


def test_measured_and_side_by_side(conv: str, relu: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", conv, "--measure", "5", "--against", relu, "--activations", "8"]) == 0
    out = capsys.readouterr().out
    assert "latency, measured here: " in out
    assert f"before: {relu}" in out
    assert "us, measured" in out
    assert "1296 at 32x8 bits" in out


def test_no_torch_is_imported(conv: str) -> None:
    code = (
        f"from laconic.cli import main; raise SystemExit(main(['cost', {conv!r}, '--device', 'x86-server']))"
    )
    assert "latency, estimated" in run_fresh(code, without_torch=True)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--device", "cortex-m8"], "no device is called 'cortex-m8'; there are cortex-a72"),
        (["--device", "absent.toml"], "cannot read device file absent.toml: No such file"),
        (["--input", "1xx8"], "--input '1xx8' is no shape. Cure"),
        (["--input", "2x9x9"], "input 0 of the network has shape anyx1x8x8, got 1x2x9x9. Cure"),
        (["--input", "8"], "has shape anyx1x8x8, got 8. Cure"),
        (["--batch", "0"], "the batch must be at least 1, got 0"),
        (["--measure", "-1"], "--measure -1 is no number of runs. Cure: --measure 50"),
        (["--measure", "2", "--threads", "0"], "threads must be at least 1"),
        (
            ["--against", "absent.lac"],
            "cannot read absent.lac: No such file or directory. Cure: check the path",
        ),
    ],
)
def test_bad_arguments(
    words: list[str], complaint: str, conv: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cost", conv, *words]) == 2
    err = capsys.readouterr().err
    assert err.startswith(("laconic: InputError: ", "laconic: ReadError: "))
    assert complaint in err
    assert len(err.splitlines()) == 1


def test_a_device_file_with_a_missing_field(
    conv: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from importlib.resources import files

    text = (files("laconic.cost") / "devices" / "cortex-m7.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text("\n".join(line for line in text.splitlines() if not line.startswith("clock_hz")))
    assert main(["cost", conv, "--device", str(path)]) == 2
    err = capsys.readouterr().err
    assert f"device file {path}: field clock_hz is missing. Cure: add clock_hz = NUMBER, in hertz" in err


def test_files_that_cannot_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "absent.lac"]) == 2
    assert (
        "cannot read absent.lac: No such file or directory. Cure: check the path" in capsys.readouterr().err
    )


def test_a_calibrated_file_counts_in_int8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.lac"
    weight = RawTensor("stem.weight", np.ones((4, 1, 3, 3), np.float32))
    nodes = (Node("conv", (0, -1)), Node("relu", (1,)))
    ranges = (ActivationRange(0, 0.5, 0), ActivationRange(2, 0.5, -128))
    graph = Graph((ValueSpec("float32", (None, 1, 8, 8)),), nodes, (2,), ranges)
    pack.write(path, PackedModel((weight,), graph))
    assert main(["cost", str(path)]) == 0
    out = capsys.readouterr().out
    assert "input 1x1x8x8, int8" in out
    assert "MACs: 1296 at 8x8 bits; peak activations: 720 bytes" in out  # the outputs, in int8 and float32
    assert main(["cost", str(path), "--precision", "fp32"]) == 0
    assert "MACs: 1296 at 32x32 bits; peak activations: 832 bytes" in capsys.readouterr().out


def test_int8_without_ranges_is_refused(conv: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", conv, "--precision", "int8"]) == 2
    assert "this file holds none. Cure: calibrate" in capsys.readouterr().err
