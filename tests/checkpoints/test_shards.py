"""A checkpoint in several files is packed as the same checkpoint in one file is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from laconic import pack
from laconic.checkpoints import pack_checkpoint
from laconic.checkpoints.safetensors import write_safetensors
from laconic.cli.main import main
from laconic.errors import InputError, ReadError, WeightsOnlyError
from laconic.records import AnyArray
from laconic.records.element_types import bytes_of
from laconic.runtime import load

G = np.random.default_rng(0)
TENSORS = {
    "a": G.normal(size=(40, 30)).astype(np.float32),
    "b": G.normal(size=7).astype(np.float32),
    "c": G.normal(size=(20, 30)).astype(np.float16),
}


def shard(path: Path, tensors: Mapping[str, AnyArray]) -> None:
    rows = [(name, array.shape, array.dtype.name) for name, array in tensors.items()]
    write_safetensors(path, rows, lambda name: bytes_of(tensors[name]), {"format": "pt"})


def indexed(folder: Path) -> Path:
    """The tensors in two files, and their index."""
    shard(folder / "model-00001-of-00002.safetensors", {name: TENSORS[name] for name in "ab"})
    shard(folder / "model-00002-of-00002.safetensors", {"c": TENSORS["c"]})
    places = {name: f"model-0000{1 + (name == 'c')}-of-00002.safetensors" for name in TENSORS}
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 6028}, "weight_map": places}))
    return path


@pytest.mark.parametrize("rate", [{"lossless": True}, {"bits": 3.0}])
def test_the_same_bytes_as_of_one_file(tmp_path: Path, rate: dict[str, float]) -> None:
    shard(tmp_path / "whole.safetensors", TENSORS)
    pack_checkpoint(tmp_path / "whole.safetensors", tmp_path / "whole.lac", **rate)  # type: ignore[arg-type]
    pack_checkpoint(indexed(tmp_path), tmp_path / "parts.lac", **rate)  # type: ignore[arg-type]
    one, several = (pack.open(tmp_path / f"{name}.lac") for name in ("whole", "parts"))
    assert set(one) == set(several) == set(TENSORS) and several.metadata == {"format": "pt"}
    for name in TENSORS:
        assert np.array_equal(one[name], several[name]) and one[name].dtype == several[name].dtype


def test_the_command_takes_an_index(tmp_path: Path) -> None:
    arguments = ["pack", str(indexed(tmp_path)), "--lossless", "--out", str(tmp_path / "out.lac")]
    assert main(arguments) == 0
    assert np.array_equal(pack.open(tmp_path / "out.lac")["c"], TENSORS["c"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "has no weight_map"),
        ("{", "has no weight_map"),
        ('{"weight_map": 3}', "has no weight_map"),
        ('{"weight_map": {}}', "names no tensor"),
        ('{"weight_map": {"a": "../x.safetensors"}}', r"tensor 'a' is to stand in '../x.safetensors'"),
        ('{"weight_map": {"a": 3}}', "tensor 'a' is to stand in 3"),
        ('{"weight_map": {"d": "model-00002-of-00002.safetensors"}}', "holds no tensor 'd'"),
    ],
)
def test_an_index_that_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    path = indexed(tmp_path)
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        pack_checkpoint(path, tmp_path / "out.lac", lossless=True)
    assert not (tmp_path / "out.lac").exists()


def test_a_file_that_is_missing_or_would_be_lost(tmp_path: Path) -> None:
    path, part = indexed(tmp_path), tmp_path / "model-00002-of-00002.safetensors"
    with pytest.raises(InputError, match="is the checkpoint, which would be lost"):
        pack_checkpoint(path, part, lossless=True)
    part.unlink()
    with pytest.raises(ReadError, match=part.name):
        pack_checkpoint(path, tmp_path / "out.lac", lossless=True)


def test_a_packed_checkpoint_cannot_run_and_says_how_to_unpack_it(tmp_path: Path) -> None:
    pack_checkpoint(indexed(tmp_path), tmp_path / "out.lac", lossless=True)
    with pytest.raises(WeightsOnlyError, match="without a graph.*laconic.unpack_checkpoint"):
        load(tmp_path / "out.lac")
