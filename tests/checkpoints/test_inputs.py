"""What a user may hand over wrongly, and headers that no one wrote: one clear error each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from laconic import pack
from laconic.checkpoints import pack_checkpoint, unpack_checkpoint
from laconic.errors import InputError, WriteError
from laconic.records import PackedModel, RawTensor

WEIGHT = np.random.default_rng(0).normal(size=(64, 128)).astype(np.float32)


class Tensor:
    """Stands for one of torch."""

    __module__ = "torch"


@pytest.mark.parametrize(
    ("source", "more", "said"),
    [
        ({"w": WEIGHT}, {"bits": "3"}, r"bits is '3'\. Cure"),
        ({"w": WEIGHT}, {"bits": True}, r"bits is True\. Cure"),
        ({"w": WEIGHT}, {"max_bytes": 2000.5}, r"max_bytes is 2000.5\. Cure: a finite and whole"),
        ({"w": WEIGHT}, {"bits": 3, "threads": 0}, r"threads=0 .*Cure: None"),
        ({"w": WEIGHT}, {"bits": 3, "threads": -1}, r"threads=-1 .*Cure: None"),
        ({"w": [[1.0]]}, {"bits": 3}, r"'w'.* a list, no NumPy array\. Cure: a NumPy array"),
        ({"w": Tensor()}, {"bits": 3}, r"'w'.* a torch.Tensor, .*Cure: .*safetensors.torch.save_file"),
        ({3: WEIGHT}, {"bits": 3}, r"called 3, which is no text\. Cure"),
        ({"\ud800": WEIGHT}, {"bits": 3}, r"no valid Unicode: .*\. Cure"),
        ({"w": np.zeros((0, 2**40), np.float32)}, {"lossless": True}, r"'w'.*is empty .*Cure: leave it out"),
    ],
)
def test_arguments(tmp_path: Path, source: Any, more: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        pack_checkpoint(source, tmp_path / "x.lac", **more)
    assert not list(tmp_path.iterdir())


def test_threads_of_readers_and_empty_tensors_of_writers(tmp_path: Path) -> None:
    small = tmp_path / "x.lac"
    pack_checkpoint({"w": WEIGHT, "none": np.zeros((0, 9), np.float32)}, small, lossless=True)
    with pytest.raises(InputError, match="threads=0"):
        pack.open(small, threads=0)
    with pytest.raises(InputError, match="Cure: leave it out"):
        pack.encode(PackedModel((RawTensor("w", np.zeros((0, 2**40), np.float32)),)))


def test_one_name_to_keep(tmp_path: Path) -> None:
    pack_checkpoint({"weight": WEIGHT}, tmp_path / "x.lac", bits=3.0, keep="weight")
    assert pack.open(tmp_path / "x.lac")["weight"].tobytes() == WEIGHT.tobytes()


@pytest.mark.parametrize("out", [".", "..", "/", ""])
def test_an_output_that_is_a_folder(out: str) -> None:
    with pytest.raises(WriteError, match="Cure"):
        pack_checkpoint({"w": WEIGHT}, out, bits=3.0)


def header(path: Path, text: str) -> Path:
    """A file of this header and four bytes."""
    path.write_bytes(len(text).to_bytes(8, "little") + text.encode() + bytes(4))
    return path


ROW = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    "rows",
    [
        {"\ud800": ROW},
        {"w": ROW, "__metadata__": {"\udfff": "a"}},
        {"w": ROW, "__metadata__": {"a": "b\ud800"}},
        {"w": {**ROW, "dtype": "\ud800" * 4000}},
        {"w": {**ROW, "shape": [int("9" * 4000)]}},
        {"w": {**ROW, "data_offsets": [0, int("9" * 4000)]}},
        {"w": {**ROW, "shape": [1] * 20_000}},
    ],
)
def test_headers(tmp_path: Path, rows: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="Cure") as caught:
        pack_checkpoint(header(tmp_path / "x", json.dumps(rows)), tmp_path / "x.lac", lossless=True)
    str(caught.value).encode()
    assert len(str(caught.value)) < 700


def test_a_grandparent_is_not_written_over(tmp_path: Path) -> None:
    files = [tmp_path / f"{k}.lac" for k in range(4)]
    parent = None
    for k, file in enumerate(files[:3]):
        pack_checkpoint({"w": WEIGHT, "v": WEIGHT[k]}, file, lossless=True, parent=parent)
        parent = pack.open(file, parent=parent)
    before = [file.read_bytes() for file in files[:3]]
    old = pack.open(files[1], parent=files[0])
    for file in files[:2]:
        with pytest.raises(InputError, match="is the parent, which would be lost"):
            unpack_checkpoint(files[2], file, parent=old)
        with pytest.raises(InputError, match="is the parent, which would be lost"):
            pack_checkpoint({"w": WEIGHT}, file, lossless=True, parent=old)
    assert before == [file.read_bytes() for file in files[:3]]
