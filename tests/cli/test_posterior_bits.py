"""``inspect`` shows the bits by posterior of a record beside the file, and of no other record."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from laconic.cli import main as laconic
from laconic.cli.posterior_bits import bits_beside
from laconic.pack import encode
from laconic.quantize.likelihood import BITS, bits_by_layer
from laconic.records import IntTensor, PackedModel, UniformGrid, WeightStats

STATS = WeightStats("fc.weight", np.float32([1.0, -1.0]), np.float32([1 / 15, 1 / 63]))
ROW = asdict(bits_by_layer({"fc.weight": STATS})["fc.weight"])


def written(folder: Path, **changes: Any) -> str:
    path = folder / "model.lac"
    path.write_bytes(encode(PackedModel((IntTensor("fc.weight", np.int32([1, -1]), UniformGrid(1.0)),))))
    record = {"file_bytes": path.stat().st_size, "facts": {BITS: {"fc.weight": ROW}}, **changes}
    (folder / "record.json").write_text(json.dumps(record))
    return str(path)


def test_inspect_shows_the_bits_of_the_record_beside_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert laconic(["inspect", written(tmp_path)]) == 0
    shown = capsys.readouterr().out
    line = next(text for text in shown.splitlines() if text.startswith("fc.weight") and "2.50" in text)
    assert line.split() == ["fc.weight", "2", "2.50", "2.10", "2.50", "2.90", "2"]
    assert max(map(len, shown.split("bits by posterior")[1].split("\n\n")[0].splitlines())) <= 80


def test_without_a_record_there_is_no_table(tmp_path: Path) -> None:
    path = written(tmp_path)
    (tmp_path / "record.json").unlink()
    assert bits_beside(path, Path(path).stat().st_size) == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"file_bytes": 3},
        {"file_hash": "0" * 32},
        {"facts": {}},
        {"facts": []},
        {"facts": {BITS: {"fc.weight": {"mean": 2.0}}}},
        {"facts": {BITS: {"fc.weight": {**ROW, "mean": "much"}}}},
    ],
)
def test_a_record_of_another_file_or_form_is_left_alone(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = written(tmp_path, **changes)
    assert bits_beside(path, Path(path).stat().st_size) == ""


@pytest.mark.parametrize("text", ["", "[1, 2]", "{", "[" * 100_000])
def test_a_record_that_is_no_json_object_does_not_keep_a_file_from_being_read(
    tmp_path: Path, text: str
) -> None:
    path = written(tmp_path)
    (tmp_path / "record.json").write_text(text)
    assert bits_beside(path, Path(path).stat().st_size) == ""
    assert laconic(["inspect", path]) == 0
