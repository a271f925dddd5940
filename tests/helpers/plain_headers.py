"""Tensor headers of a .lac file in plain Python, written from FORMAT.md alone."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from math import prod
from typing import Any

from tests.helpers.plain_bytes import Bytes
from tests.helpers.plain_exact import chunked
from tests.helpers.plain_kinds import Grid, SharedCode

RAW_LETTERS = ("f", "e", "d", "q", "i", "h", "b", "B", "?")
CHUNKED, MIXED = 15, 39


@dataclass
class Plain:
    """A tensor as flat lists: its integers (empty if it is stored otherwise) and its values."""

    name: str
    shape: tuple[int, ...]
    integers: list[int]
    values: list[float]
    type: int = 0
    data: bytes = b""
    grid: Grid | None = None


@dataclass
class Fields:
    """The fields of an integer tensor's header."""

    shape: tuple[int, ...]
    grid: Grid
    words: list[int]
    adaptive: bool
    mixed: bool = False
    low_bits: int = 0
    lowest: int = 0
    counts: list[int] = field(default_factory=list)
    classes: int = 0
    background: int = 0
    density: int = 0
    flags: int = 0
    rows: int = 0
    chunks: list[bytes] = field(default_factory=list)


@dataclass
class Other:
    """A tensor of another kind: its code, its fields, and its parts' headers."""

    shape: tuple[int, ...]
    code: int
    fields: tuple[Any, ...]
    parts: list[Plain | Fields]


@dataclass
class Before:
    """What headers before said: the last matrix's rows, and the grids that were spelled out."""

    rows: int | None = None
    grids: list[Grid] = field(default_factory=list)
    code: SharedCode | None = None


def any_header(source: Bytes, before: Before) -> Plain | Fields | Other:
    if source.data[source.at] & 3 != 3 or source.data[source.at] in (CHUNKED, MIXED):
        return _header(source, before)
    code = source.take(1)[0] >> 2
    shape = tuple(source.varint() for _ in range(source.varint()))
    fields: tuple[Any, ...] = ()
    if code == 10:
        return Other(shape, code, _of_a_code(source, before, shape), [])
    if code > 3:
        return _of_a_checkpoint(source, before, shape, code)
    if code < 2:
        fields = (int.from_bytes(source.take(8), "little"),)
    if code == 1:
        fields += (source.varint(), [_float(source, 0) for _ in range(source.varint())])
    return Other(shape, code, fields, [_header(source, before) for _ in range(2 if code == 2 else 1)])


def _of_a_code(source: Bytes, before: Before, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Code 10: the code, the tensor's first weight in it, buckets, scale."""
    size = source.varint()
    if size:
        seed, blocks, bits = source.varint(), source.varint(), source.varint()
        data = "".join(f"{byte:08b}" for byte in source.take(-(-blocks * bits // 8)))
        indices = [int(data[bits * b : bits * (b + 1)], 2) for b in range(blocks)]
        before.code = SharedCode(size, seed, bits, indices)
    code = before.code
    assert code is not None
    first, buckets = (code.next + source.varint()) % code.size, source.varint()
    code.next = (first + (buckets or prod(shape))) % code.size
    return code, first, buckets, _float(source, 4)


def _of_a_checkpoint(source: Bytes, before: Before, shape: tuple[int, ...], code: int) -> Other:
    """Codes 4 to 8."""
    if code in (4, 8):
        fields: tuple[Any, ...] = (chunked(source, prod(shape)),)
        return Other(shape, code, (*fields, source.text()) if code == 8 else fields, [])
    name = source.text() if code > 5 else ""
    fields = (source.take(1)[0], name)
    return Other(shape, code, fields, [] if code == 6 else [_header(source, before)])


def _header(source: Bytes, before: Before) -> Plain | Fields:
    mixed = source.data[source.at] == MIXED
    if mixed:
        source.take(1)
    if source.data[source.at] != CHUNKED:
        return _one_header(source, before, mixed)
    source.take(1)
    fields = _one_header(source, before, mixed)
    assert isinstance(fields, Fields)
    fields.rows = source.varint()
    lengths = [source.varint() for _ in range(-(-fields.shape[0] // fields.rows))]
    fields.chunks = [source.take(length) for length in lengths]
    return fields


def _one_header(source: Bytes, before: Before, mixed: bool) -> Plain | Fields:
    head, rows = source.take(1)[0], before.rows
    if head == 0:
        letter = RAW_LETTERS[source.take(1)[0]]
        shape = tuple(source.varint() for _ in range(source.varint()))
        layout = f"<{prod(shape)}{letter}"
        data = source.take(struct.calcsize(layout))
        return Plain("", shape, [], list(struct.unpack(layout, data)), RAW_LETTERS.index(letter), data)
    inherited = (rows,) if head & 16 and rows is not None else None
    shape = inherited or tuple(source.varint() for _ in range(source.varint()))
    before.rows = shape[0] if len(shape) > 1 else rows
    earlier = head & 192 == 128
    grid = before.grids[-1 - source.varint()] if earlier else _grid(source, head, shape)
    if not earlier:
        before.grids.append(grid)
    words: list[int] = []
    for k in range(source.varint() if head & 32 else 0):
        words.append(words[-1] + 1 + source.varint() if k else source.signed())
    fields = Fields(shape, grid, words, head & 3 == 2, mixed)
    if not fields.adaptive:
        fields.lowest = source.signed()
        both = source.varint()
        fields.low_bits = source.take(1)[0] if both % 2 else 0
        fields.counts = [source.varint() for _ in range(both // 2)] if both // 2 > 1 else [1]
        return fields
    if mixed:
        fields.flags = source.take(1)[0]
        fields.background = source.signed() if fields.flags >> 3 & 1 else 0
        return fields
    if len(shape) < 2:
        both = source.varint()
        fields.classes, announced = both // 4, both % 4
    else:
        fields.density, fields.flags = source.take(1)[0], int.from_bytes(source.take(2), "little")
        fields.classes, announced = source.varint(), fields.flags >> 13 & 3
    fields.low_bits = source.take(1)[0] if announced & 1 else 0
    fields.background = source.signed() if announced & 2 else 0
    return fields


def _grid(source: Bytes, head: int, shape: tuple[int, ...]) -> Grid:
    axis = source.varint() if head & 64 else None
    if axis is not None and head & 128:
        return Grid(False, axis, _coded_steps(source, shape[axis]))
    channels = []
    for _ in range(1 if axis is None else shape[axis]):
        channels.append([_float(source, head) for _ in range(source.varint() if head & 8 else 1)])
    return Grid(bool(head & 8), axis, channels)


def _coded_steps(source: Bytes, n: int) -> list[list[float]]:
    """Rice codes of bfloat16 numbers, one for each channel."""
    form, code = source.take(1)[0], source.varint()
    first, low, dropped = code, form % 16, form // 16 % 8
    raw = source.take(source.varint())
    bits, steps = "".join(f"{byte:08b}" for byte in raw), []
    for _ in range(n):
        ones = bits.index("0")
        folded = ones << low | int("0" + bits[ones + 1 : ones + 1 + low], 2)
        bits = bits[ones + 1 + low :]
        code = (code if form > 127 else first) + (folded // 2 if folded % 2 == 0 else -(folded + 1) // 2)
        steps.append([struct.unpack("<f", struct.pack("<I", code << dropped + 16))[0]])
    assert len(bits) < 8 and "1" not in bits
    return steps


def _float(source: Bytes, head: int) -> float:
    raw = b"\0\0" + source.take(2) if head & 4 else source.take(4)
    value: float = struct.unpack("<f", raw)[0]
    return value
