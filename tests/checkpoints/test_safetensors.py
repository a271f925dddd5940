"""Files that are no safetensors, or claim what is not there: one named error each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from laconic.checkpoints.safetensors import SafetensorsFile, write_safetensors
from laconic.errors import InputError, ReadError


def written(path: Path, header: Any, data: bytes = bytes(8), length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def row(**changed: object) -> dict[str, object]:
    return {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changed}}


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[1]", "no object"),
        (b'{"w": 1, "w": 1}', r"no JSON \('w' stands twice\)"),
        ({**row(), "v": row()["w"]}, "begins at byte 0, and the one before it ends at 8"),
        (row(shape=[1], data_offsets=[4, 8]), "begins at byte 4, and the one before it ends at 0"),
        (b'{"\xff": 1}', "no JSON"),
        ({"__metadata__": [1]}, "metadata are no texts"),
        ({"__metadata__": {"a": 1}}, "metadata are no texts"),
        ({"w": 3}, "tensor 'w' is invalid"),
        ({"w": {"dtype": "F32", "shape": [2]}}, "tensor 'w' is invalid"),
        (row(data_offsets=[0]), "tensor 'w' is invalid"),
        (row(dtype="F4"), "tensor 'w' has elements of type F4"),
        (row(dtype=["F32"]), "tensor 'w'"),
        (row(shape=[-2]), "tensor 'w' of shape"),
        (row(shape=[2.0]), "tensor 'w' of shape"),
        (row(shape=[3]), "claims bytes 0..8"),
        (row(data_offsets=[8, 16]), "claims bytes 8..16 of 8"),
        (row(data_offsets=[8, 0]), "claims bytes 8..0"),
        (row(shape=[2**62, 2], data_offsets=[0, 2**65]), "claims bytes"),
    ],
)
def test_invalid_headers(tmp_path: Path, header: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        SafetensorsFile(written(tmp_path / "x.safetensors", header))


def test_what_is_no_such_file(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"abc")
    for path in (tmp_path / "short", written(tmp_path / "long", row(), length=2**62)):
        with pytest.raises(InputError, match="no safetensors file"):
            SafetensorsFile(path)
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(ReadError):
            SafetensorsFile(path)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    arrays = {
        "a": np.float32([[1, 2]]),
        "b": np.int8([3]),
        "none": np.zeros((0, 3), np.float16),
        "c": np.bool_(1),
    }
    rows = [(name, np.asarray(x).shape, np.asarray(x).dtype.name) for name, x in arrays.items()]
    path = tmp_path / "x.safetensors"
    size = write_safetensors(path, rows, lambda n: np.frombuffer(arrays[n].tobytes(), np.uint8), {"k": "v"})
    assert size == path.stat().st_size
    with SafetensorsFile(path) as file:
        assert file.metadata == {"k": "v"}
        for name, array in arrays.items():
            assert file.read(name).tobytes() == array.tobytes()
            assert file.entries[name].shape == np.asarray(array).shape


def test_a_type_that_the_format_lacks(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'w' is complex128"):
        write_safetensors(tmp_path / "x", [("w", (1,), "complex128")], lambda _: np.zeros(16, np.uint8), {})
    assert not list(tmp_path.iterdir())
