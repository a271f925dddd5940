"""Exact elements, rounded values and tensors of a parent in plain Python, written from FORMAT.md alone."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import isinf, isnan

from tests.helpers.integer_ans import IntegerAns, table_of_counts
from tests.helpers.plain_bytes import Bytes

WORDS = (4, 2, 8, 8, 4, 2, 1, 1, 1, 2, 2, 4, 8, 1, 1, 4, 8, 1, 1, 1)
FLOATING = {0, 1, 2, 9, *range(13, 20)}
COMPLEX = {15, 16}


@dataclass
class Chunked:
    """The fields of exact elements: type, elements of a chunk, chunks."""

    type: int
    entries: int
    chunks: list[bytes]


def chunked(source: Bytes, size: int) -> Chunked:
    """The fields before the chunks, and these."""
    kind = source.take(1)[0]
    if size == 0:
        return Chunked(kind, 0, [])
    entries = source.varint()
    lengths = [source.varint() for _ in range(-(-size // entries))]
    return Chunked(kind, entries, [source.take(n) for n in lengths])


def elements(fields: Chunked, size: int, rotated: bool) -> bytes:
    """The bytes of all elements."""
    out, word = b"", WORDS[fields.type]
    for k, chunk in enumerate(fields.chunks):
        entries = min(fields.entries, size - k * fields.entries)
        numbers = entries * (2 if fields.type in COMPLEX else 1)
        source = Bytes(chunk)
        planes = [_plane(source, numbers) for _ in range(word)]
        made = b""
        for i in range(numbers):
            bits = int.from_bytes(bytes(plane[i] for plane in planes), "big")
            if rotated and fields.type in FLOATING:
                bits = bits >> 1 | (bits & 1) << (8 * word - 1)
            made += bits.to_bytes(word, "little")
        assert zlib.crc32(made) == int.from_bytes(source.take(4), "little")
        assert source.at == len(chunk)
        out += made
    return out


def _plane(source: Bytes, n: int) -> bytes:
    mode = source.take(1)[0]
    if mode == 0:
        return source.take(n)
    if mode == 1:
        return source.take(1) * n
    lowest, classes = source.take(1)[0], source.take(1)[0] + 1
    counts = [source.varint() for _ in range(classes)]
    coder = IntegerAns(source.take(source.varint()))
    table = table_of_counts(counts)
    found = bytes(lowest + coder.take(table) for _ in range(n))
    assert coder.finished
    assert coder.state == 1 << 31
    return found


def shifted_ranks(parent: bytes, change: bytes, kind: int) -> bytes:
    """Code 8: the parent's elements and the differences."""
    word, out = WORDS[kind], b""
    top, mask = 1 << (8 * word - 1), (1 << 8 * word) - 1
    for k in range(0, len(parent), word):
        bits = int.from_bytes(parent[k : k + word], "little")
        d = int.from_bytes(change[k : k + word], "little")
        if kind in FLOATING:
            bits = ~bits & mask if bits & top else bits | top
        bits = (bits + (d // 2 if d % 2 == 0 else -(d + 1) // 2)) & mask
        if kind in FLOATING:
            bits = bits & ~top if bits & top else ~bits & mask
        out += bits.to_bytes(word, "little")
    return out


def rounded(values: Sequence[float], kind: int) -> bytes:
    """Code 5: float32 values rounded to types 0, 1, 2 and 9."""
    return b"".join(_rounded(value, kind) for value in values)


def _rounded(value: float, kind: int) -> bytes:
    if kind == 9:
        bits = int.from_bytes(struct.pack("<f", value), "little")
        if isnan(value):
            return (bits >> 16 | 64).to_bytes(2, "little")
        rest, upper = bits & 0xFFFF, bits >> 16
        return (upper + (rest > 0x8000 or (rest == 0x8000 and upper & 1))).to_bytes(2, "little")
    letter = {0: "f", 1: "e", 2: "d"}[kind]
    try:
        return struct.pack(f"<{letter}", value)
    except OverflowError:
        assert not isinf(value)
        return struct.pack(f"<{letter}", float("inf") if value > 0 else -float("inf"))
