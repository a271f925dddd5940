"""Files and calls of codec 3 that no writer produces: each is refused, with the right error, or read."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from laconic.errors import CorruptFileError, FileFormatError, LimitError
from laconic.pack import Limits, decode
from laconic.pack.codecs.compiled import extension, mixing
from laconic.pack.codecs.layouts import Geometry
from laconic.pack.codecs.mixed import code_mixed
from laconic.pack.codecs.settings import Mix
from laconic.pack.codecs.symbols import StreamReader, StreamWriter
from laconic.pack.file.container import take_apart
from laconic.pack.file.needs import decoding
from laconic.varint import Writer
from tests.pack.chunked import framed

GOLDEN = (Path(__file__).parent / "golden" / "mixed.lac").read_bytes()
CODE = mixing()
pytestmark = pytest.mark.skipif(CODE is None, reason="installed without a compiler")


def file_of(header: bytes, stream: bytes = b"\1" * 8) -> bytes:
    """A file of one tensor "w" with this header, whose length and checksum are right."""
    return framed(b"\0\1\0" + b"\0\0\1w" + header + stream)


def header(
    *, word: int = 0, shape: tuple[int, ...] = (4, 4), head: int = 6, before: bytes = b"\x27"
) -> bytes:
    out = Writer()
    out.raw(before)
    out.byte(head)
    for value in (len(shape), *shape):
        out.varint(value)
    out.raw(b"\x80\x3f")
    out.byte(word)
    return bytes(out.data)


def refixed(data: bytearray) -> bytes:
    """The same bytes with the right checksum at the end."""
    data[-4:] = zlib.crc32(data[:-4]).to_bytes(4, "little")
    return bytes(data)


def outcome(data: bytes) -> Any:
    try:
        return [tensor.values().tobytes() for tensor in decode(data, limits=Limits(elements=10**6)).tensors]
    except FileFormatError as error:
        return error


def test_flipped_bits_behind_right_checksums_are_refused() -> None:
    """In the stream each flip is seen by the checksum of the integers; in headers it may be another file."""
    for place in range(8, len(GOLDEN) - 4, 23):
        data = bytearray(GOLDEN)
        data[place] ^= 1 << place % 8
        said = outcome(refixed(data))
        assert isinstance(said, FileFormatError | list), place
        if place > len(GOLDEN) - 400:
            assert isinstance(said, FileFormatError), place


def test_every_cut_is_refused() -> None:
    body = GOLDEN[6:-4]  # after magic, version and a length of two bytes
    assert outcome(framed(body)) == outcome(GOLDEN)
    for end in range(0, len(body), 11):
        assert isinstance(outcome(framed(body[:end])), FileFormatError), end


def test_headers_out_of_range_are_refused() -> None:
    for bad in (
        header(word=16),
        header(word=128),
        header(word=8) + b"\0",  # a background of 0 is not announced
        header(head=5),
        header(head=4),
        header(before=b"\x27\x27"),
        header(before=b"\x0f\x27"),
        header(shape=(2**10 + 1, 2**10)),
        header(shape=(1, 2**16)),
        header(shape=(0, 4)),
    ):
        with pytest.raises(CorruptFileError):
            decode(file_of(bad))


def test_many_lines_have_a_limit_together() -> None:
    with pytest.raises(LimitError, match="rows and columns"):
        decode(file_of(header()), limits=Limits(lines=7))


def test_memory_and_work_are_foreseen() -> None:
    small, large = (take_apart(file_of(header(shape=(n, n))), Limits()) for n in (4, 1000))
    assert decoding(large, 0).memory > decoding(small, 0).memory + 64 * 10**6
    assert decoding(large, 0).work > 40 * 10**6


SHAPE = (5, 7)
TABLES = np.concatenate([np.arange(7), *[np.full(7, 7)] * 4]).astype(np.int64)


@pytest.mark.parametrize("seed", range(30))
def test_both_make_the_same_of_damaged_streams(seed: int) -> None:
    rng = np.random.default_rng(seed)
    geometry = (Geometry(), Geometry(7, 3), Geometry(3, 2))[seed % 3]
    q = np.round(rng.standard_cauchy(SHAPE)).astype(np.int64).clip(-(2**21) + 1, 2**21 - 1)
    stream = StreamWriter()
    code_mixed(stream, SHAPE, Mix(0, seed % 2 == 1), geometry, None, q)
    data = bytearray(stream.finish(5))
    if seed % 4 == 1:
        data[len(data) // 2] ^= 1 << seed % 8
    elif seed % 4 == 2:
        data = data[: len(data) // 2] + b"\1"
    elif seed % 4 == 3:
        data = bytearray(rng.bytes(len(data)) + b"\1")
    said: list[Any] = []
    for code in (extension(), None):
        reader = StreamReader(bytes(data), code)
        try:
            found = code_mixed(reader, SHAPE, Mix(0, seed % 2 == 1), geometry, None, None)
            said.append(([part.tolist() for part in found], reader.left_bits()))
        except FileFormatError as error:
            said.append((type(error), str(error)))
    assert said[0] == said[1]
    if seed % 4 == 0:
        assert said[0][0][2] == q[q != 0].tolist()


def good() -> dict[str, list[Any]]:
    words, part = np.full(9, 77, np.uint32), np.ones(SHAPE, np.int32)
    room = 35 * 3
    return {
        "cells": [words, 9, 2**40, *SHAPE, 1, False, TABLES, np.zeros((5, 9), np.int32)],
        "put_cells": [part, *SHAPE, 1, False, TABLES, np.zeros(room, np.int64), np.zeros(room, np.int32)],
    }


def changed(place: int, value: int) -> Any:
    tables = TABLES.copy()
    tables[place] = value
    return tables


BAD = [
    ("cells", 1, 10), ("cells", 1, -1), ("cells", 2, 2**64), ("cells", 3, 0), ("cells", 3, 6),
    ("cells", 4, 2**40), ("cells", 5, 0), ("cells", 5, 2**16 + 1), ("cells", 7, TABLES[1:].copy()),
    ("cells", 7, changed(2, 1)),
    ("cells", 7, changed(3, 2**40)), ("cells", 7, changed(9, 9)), ("cells", 7, changed(9, -1)),
    ("cells", 8, np.zeros(44, np.int32)), ("put_cells", 0, np.ones(34, np.int32)),
    ("put_cells", 0, np.full(SHAPE, 2**21, np.int32)), ("put_cells", 0, np.full(SHAPE, -(2**31), np.int32)),
    ("put_cells", 6, np.zeros(9, np.int64)), ("put_cells", 7, np.zeros(9, np.int32)), ("put_cells", 3, -1),
]  # fmt: skip


def test_good_arguments_are_taken() -> None:
    for name, arguments in good().items():
        getattr(CODE, name)(*arguments)


@pytest.mark.parametrize(("name", "place", "value"), BAD)
def test_bad_arguments_are_refused(name: str, place: int, value: Any) -> None:
    arguments = good()[name]
    arguments[place] = value
    with pytest.raises(ValueError, match=r"wrong|must rise|not there|too (many|large|little)"):
        getattr(CODE, name)(*arguments)
