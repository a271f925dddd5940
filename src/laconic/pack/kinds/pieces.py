"""Elements of any type in independent chunks of byte planes (FORMAT.md, "Exact elements")."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from laconic.errors import CorruptFileError, TruncatedFileError, at
from laconic.pack.codecs.planes import decode_planes, encode_planes
from laconic.pack.threads import in_threads
from laconic.records.element_types import ELEMENT_TYPES, ByteArray, ElementType
from laconic.varint import Reader, Writer

CHUNK_BYTES = 1 << 21
"""Approximate bytes of the elements of a chunk that we write."""
MIN_ENTRIES = 1 << 12
"""The fewest elements of a chunk; the last one, and the only one, may have fewer."""
_MIN_BYTES = 6  # of a chunk: a plane and the checksum
_BYTE_STEPS = 4  # of a byte of an element: drawn, moved, rotated and summed; loading counts them three times
_CHUNK_STEPS = 200_000  # of a chunk, however small


class Pieces(NamedTuple):
    """Chunks of ``entries`` consecutive elements, the last perhaps of fewer; ``streams``: their bytes."""

    kind: ElementType
    entries: int
    streams: tuple[bytes | memoryview, ...]

    @property
    def bytes(self) -> int:
        """Bytes of all chunks."""
        return sum(map(len, self.streams))

    def steps(self, size: int) -> int:
        """Upper bound on the steps (about a nanosecond each) to decode so many elements."""
        return _BYTE_STEPS * self.kind.bytes * size + _CHUNK_STEPS * len(self.streams)


def encode_pieces(data: ByteArray, kind: ElementType, rotated: bool, threads: int | None = None) -> Pieces:
    """Elements, given by their bytes, in chunks; ``rotated``: whether signs are moved behind mantissas."""
    size = data.size // kind.bytes
    if size == 0:
        return Pieces(kind, 0, ())
    entries = min(size, CHUNK_BYTES // kind.bytes)
    width = entries * kind.bytes

    def one(number: int) -> bytes:
        return encode_planes(data[number * width : (number + 1) * width], kind.word, rotated)

    return Pieces(kind, entries, tuple(in_threads(one, range(-(-size // entries)), threads)))


def decode_pieces(pieces: Pieces, size: int, rotated: bool, threads: int | None = None) -> ByteArray:
    """The bytes of ``size`` elements. Raises a ``FileFormatError`` that names the first invalid chunk."""
    out, width = np.empty(size * pieces.kind.bytes, np.uint8), pieces.entries * pieces.kind.bytes

    def one(number: int) -> None:
        with at(f"chunk {number}"):
            source = Reader(pieces.streams[number], "it")
            decode_planes(source, out[number * width : (number + 1) * width], pieces.kind.word, rotated)

    in_threads(one, range(len(pieces.streams)), threads)
    return out


def put_type(out: Writer, kind: ElementType) -> None:
    """The type's code."""
    out.byte(ELEMENT_TYPES.index(kind))


def get_type(source: Reader) -> ElementType:
    """The type of a code. Raises ``CorruptFileError`` for one that is not in the table."""
    code = source.byte()
    if code >= len(ELEMENT_TYPES):
        raise CorruptFileError(f"no element type has code {code}")
    return ELEMENT_TYPES[code]


def put_pieces(out: Writer, pieces: Pieces) -> None:
    """Type, elements of a chunk, length of each chunk, chunks."""
    put_type(out, pieces.kind)
    if not pieces.streams:
        return
    out.varint(pieces.entries)
    for stream in pieces.streams:
        out.varint(len(stream))
    for stream in pieces.streams:
        out.raw(stream)


def get_pieces(source: Reader, size: int) -> Pieces:
    """The chunks of a tensor of ``size`` elements; their bytes are not copied.

    Raises ``CorruptFileError`` for chunks that are too small, ``TruncatedFileError`` naming the first chunk
    that leaves the file.
    """
    kind = get_type(source)
    if size == 0:
        return Pieces(kind, 0, ())
    entries = source.varint()
    if not min(MIN_ENTRIES, size) <= entries <= size:
        raise CorruptFileError(f"{size} elements are in chunks of {entries}")
    count = -(-size // entries)
    if count * (1 + _MIN_BYTES) > source.left:
        raise TruncatedFileError(f"{count} chunks are claimed in {source.left} bytes")
    lengths = [source.varint() for _ in range(count)]
    if min(lengths) < _MIN_BYTES:
        raise CorruptFileError(f"chunk {lengths.index(min(lengths))} has {min(lengths)} bytes")
    return Pieces(kind, entries, tuple(source.views(lengths)))
