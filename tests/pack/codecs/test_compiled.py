"""The compiled reader against the NumPy one: the same integers, the same end of it, the same refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from laconic.errors import FileFormatError
from laconic.pack import Limits, decode, encode
from laconic.pack.codecs import compiled
from laconic.pack.codecs.adaptive import Entries, code_matrix
from laconic.pack.codecs.layouts import Flags, Geometry, geometries
from laconic.pack.codecs.settings import Settings
from laconic.pack.codecs.sizes import code_sizes
from laconic.pack.codecs.symbols import StreamReader, StreamWriter
from laconic.pack.file.container import take_apart
from laconic.pack.file.tensors import read_tensors
from laconic.records import IntTensor, PackedModel, UniformGrid
from laconic.records.children import ChildTensor
from tests.helpers.fresh import run_fresh

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("*.lac"))
CODE = compiled.extension()
pytestmark = pytest.mark.skipif(CODE is None, reason="installed without a compiler")

CHECKSUM = 77


def levels(rng: np.random.Generator, rows: int, columns: int, largest: int) -> Any:
    """A matrix of integers with some empty rows and columns, thin or crowded."""
    q = rng.integers(-largest, largest + 1, (rows, columns))
    q *= rng.random((rows, columns)) < rng.choice([0.02, 0.2, 0.8])
    q *= rng.random((rows, 1)) < rng.choice([0.6, 1.0])
    q *= rng.random((1, columns)) < rng.choice([0.6, 1.0])
    return q


def case(rng: np.random.Generator) -> tuple[tuple[int, int], Settings, Geometry, Flags | None, Any]:
    """A matrix, and settings that an encoder might choose for it, or might not."""
    channels, side = int(rng.integers(1, 9)), int(rng.choice([1, 3, 5, 7]))
    shape = (int(rng.integers(1, 40)), channels, side, side)
    if rng.random() < 0.1:
        shape = (2, 1200, 1, 1) if rng.random() < 0.5 else (1100, 3, 1, 1)  # several diagonals in a batch
    matrix = shape[0], int(np.prod(shape[1:]))
    largest = int(rng.choice([1, 2, 30, 4000]))
    low_bits = int(rng.choice([0, 0, 3])) if largest > 8 else 0
    classes = ((largest - 1) >> low_bits) + 1
    strengths = [int(k) for k in rng.integers(0, 4, 5)]
    settings = Settings(
        int(rng.integers(0, 256)), classes, low_bits, 0, *strengths, sizes_near=rng.random() < 0.5
    )
    geometry = geometries(shape, int(rng.choice([1, channels])))[int(rng.integers(0, 4))]
    hint = rng.random(matrix[1]) < 0.5 if rng.random() < 0.5 else None
    return matrix, settings, geometry, hint, levels(rng, *matrix, largest)


def written(shape: tuple[int, int], settings: Settings, geometry: Geometry, hint: Any, q: Any) -> bytes:
    stream = StreamWriter()
    code_matrix(stream, shape, settings, geometry, hint, q)
    return stream.finish(CHECKSUM)


def placed(found: Entries, shape: tuple[int, int]) -> Any:
    out = np.zeros(shape, np.int64)
    out[found.rows, found.columns] = found.values
    return out


@pytest.mark.parametrize("seed", range(60))
def test_both_read_what_was_written_and_stop_at_the_same_place(seed: int) -> None:
    shape, settings, geometry, hint, q = case(np.random.default_rng(seed))
    data = written(shape, settings, geometry, hint, q)
    left = []
    for code in (CODE, None):
        reader = StreamReader(data, code)
        found = code_matrix(reader, shape, settings, geometry, hint, None)
        assert np.array_equal(placed(found, shape), q)
        left.append(reader.left_bits())
        reader.finish(CHECKSUM)
    assert left[0] == left[1]


@pytest.mark.parametrize("seed", range(60))
def test_both_make_the_same_of_damaged_streams(seed: int) -> None:
    """Random words, or the right ones under other settings: the same entries, or the same refusal."""
    rng = np.random.default_rng(1000 + seed)
    shape, settings, geometry, hint, q = case(rng)
    data = written(shape, settings, geometry, hint, q)
    if seed % 3 == 0:
        data = rng.bytes(len(data)) + b"\1"
    elif seed % 3 == 1:
        data = data[: len(data) // 2] + b"\1"
    else:
        settings = settings._replace(density=255 - settings.density, row=3 - settings.row, near=1)
    said = []
    for code in (CODE, None):
        try:
            reader = StreamReader(data, code)
            found = code_matrix(reader, shape, settings, geometry, hint, None)
            said.append((placed(found, shape).tolist(), reader.left_bits()))
        except FileFormatError as error:
            said.append((type(error), str(error)))
    assert said[0] == said[1]


def test_another_stream_is_another_matrix() -> None:
    """The comparisons above can fail."""
    shape, settings, geometry, hint, q = case(np.random.default_rng(3))
    reader = StreamReader(written(shape, settings, geometry, hint, -q), CODE)
    found = code_matrix(reader, shape, settings, geometry, hint, None)
    assert not np.array_equal(placed(found, shape), q)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_files_read_the_same_without_compiled_code(path: Path) -> None:
    parts = take_apart(path.read_bytes(), Limits())
    plain = read_tensors(StreamReader(parts.stream), parts.headers, parts.names)
    tensors = tuple(one.tensor for one in plain)
    assert encode(PackedModel(tensors)) == encode(PackedModel(decode(path.read_bytes()).tensors))
    for one, other in zip(tensors, decode(path.read_bytes()).tensors, strict=True):
        if not isinstance(other, ChildTensor):  # its values need the parent
            assert one.values().tobytes() == other.values().tobytes()


def test_magnitudes_of_many_classes() -> None:
    """The table's one multiplication of doubles, over as many classes as there may be."""
    rng = np.random.default_rng(0)
    settings, sizes = Settings(100, 4096), 1 + rng.integers(0, 4096, 3000)
    crowd = rng.integers(0, 5, 3000)
    stream = StreamWriter()
    code_sizes(stream, crowd, settings, sizes)
    for code in (CODE, None):
        assert np.array_equal(
            code_sizes(StreamReader(stream.finish(CHECKSUM), code), crowd, settings, None), sizes
        )


def good() -> dict[str, list[Any]]:
    """Arguments that each function takes: the words, how many are left, the state, and its own."""
    head = [np.zeros(4, np.uint32), 3, 2**40]
    tables = np.array([[0, 1, 2], [3, 3, 3], [4, 4, 4], [0, 1, 2], [3, 3, 3]], np.int64)
    own = [2, 3, 1, 500, np.array([12, 0, 4, 0, 4], np.int64), tables, np.zeros((2, 5), np.int8)]
    return {
        "lines": [*head, None, 0, np.zeros(5, np.bool_)],
        "signs": [*head, np.zeros(5, np.uint8)],
        "sizes": [*head, 2, np.array([2, 3], np.int64), np.zeros(5, np.int32)],
        "cells": [*head, *own],
    }


@pytest.mark.parametrize("name", good())
def test_good_arguments_are_taken(name: str) -> None:
    left, state = getattr(CODE, name)(*good()[name])
    assert 0 <= left <= 3
    assert 0 <= state < 2**64


BAD = [
    ("lines", 1, -1), ("lines", 1, 5), ("lines", 0, np.zeros(5, np.uint8)), ("lines", 4, -1),
    ("lines", 3, np.zeros(4, np.bool_)), ("signs", 1, 9), ("signs", 3, np.zeros(2**22 + 1, np.uint8)),
    ("sizes", 3, 1), ("sizes", 3, 4097), ("sizes", 4, np.array([2, 4], np.int64)),
    ("sizes", 4, np.array([6, -1], np.int64)), ("sizes", 4, np.zeros(3, np.uint8)),
    ("sizes", 5, np.zeros(4, np.int32)), ("cells", 3, 1), ("cells", 3, 3), ("cells", 3, -2),
    ("cells", 4, 2**40), ("cells", 5, 0), ("cells", 5, 2**20), ("cells", 6, 0), ("cells", 6, 2**15),
    ("cells", 7, np.array([12, 0, 4, 0], np.int64)), ("cells", 7, np.array([12, 0, 4, 0, -4], np.int64)),
    ("cells", 7, np.array([2000, 0, 4, 0, 4], np.int64)), ("cells", 8, np.zeros((4, 3), np.int64)),
    ("cells", 8, np.full((5, 3), 5, np.int64)), ("cells", 8, np.full((5, 3), -1, np.int64)),
    ("cells", 8, np.zeros((5, 3), np.int64)), ("cells", 9, np.zeros((2, 4), np.int8)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "place", "value"), BAD)
def test_bad_arguments_are_refused(name: str, place: int, value: Any) -> None:
    arguments = good()[name]
    arguments[place] = value
    with pytest.raises(ValueError, match=r"wrong|must rise|not there|no classes|too many"):
        getattr(CODE, name)(*arguments)


def test_files_read_where_there_was_no_compiler() -> None:
    q = levels(np.random.default_rng(1), 20, 30, 3).astype(np.int32)
    data = encode(PackedModel((IntTensor("w", q, UniformGrid(1.0)),)))
    said = run_fresh(
        f"""
import sys
sys.modules["laconic.pack.codecs._adaptive"] = None  # importing it raises
from laconic.pack.codecs import compiled
from laconic.pack import decode
print(compiled.extension(), int(abs(decode(bytes.fromhex({data.hex()!r})).tensors[0].integers).sum()))
"""
    )
    assert said.split() == ["None", str(int(abs(q).sum()))]
