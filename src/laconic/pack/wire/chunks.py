"""Independent chunks of an integer tensor: number, lengths, bytes (FORMAT.md, "Chunks")."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import NamedTuple

from laconic.errors import CorruptFileError
from laconic.varint import Reader, Writer

CHUNKED = 3 | 3 << 2
"""The first byte of a tensor in chunks: code 3 of the other kinds."""
MIN_ENTRIES = 1 << 12
"""The fewest entries of a chunk; the last one, and the only one, may have fewer."""
_MIN_STREAM = 4  # bytes of the shortest symbol stream: its first word is never zero
_MIN_BYTES = 1 + _MIN_STREAM  # of a chunk: its length and its stream


class Chunks(NamedTuple):
    """Symbol streams, each of ``rows`` consecutive indices of the first dimension, the last perhaps of fewer.

    ``lengths``: bytes of each stream. ``data``: the streams one after the other.
    """

    rows: int
    lengths: tuple[int, ...]
    data: bytes | memoryview

    def streams(self) -> list[bytes | memoryview]:
        """The bytes of each chunk."""
        ends = [0]
        for length in self.lengths:
            ends.append(ends[-1] + length)
        return [self.data[a:b] for a, b in zip(ends, ends[1:], strict=False)]

    def shape(self, number: int, whole: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of chunk ``number`` of a tensor of this shape."""
        return min(self.rows, whole[0] - number * self.rows), *whole[1:]


def put_chunks(out: Writer, chunks: Chunks) -> None:
    """Rows of a chunk, the length of each stream, the streams."""
    out.varint(chunks.rows)
    for length in chunks.lengths:
        out.varint(length)
    out.raw(chunks.data)


def get_chunks(source: Reader, shape: tuple[int, ...]) -> Chunks:
    """The chunks of a tensor of this shape; their bytes are not copied.

    Raises ``CorruptFileError`` for chunks that are too small or too few, or that leave the file.
    """
    rows = source.varint()
    entries = rows * math.prod(shape[1:])
    if not shape or not 1 <= rows <= shape[0] or entries < (MIN_ENTRIES if rows < shape[0] else 1):
        raise CorruptFileError(
            f"a tensor of shape {shape} has chunks of {rows} rows; there must be {MIN_ENTRIES} entries in "
            "each but the last"
        )
    count = -(-shape[0] // rows)
    if count * _MIN_BYTES > source.left:
        raise CorruptFileError(f"{count} chunks are claimed in {source.left} bytes")
    lengths = tuple(source.varint() for _ in range(count))
    if min(lengths) < _MIN_STREAM or sum(lengths) > source.left:
        raise CorruptFileError(
            f"chunks of {min(lengths)} bytes and more, {sum(lengths)} in all, are claimed in {source.left} "
            f"bytes; each has {_MIN_STREAM} or more{_missing(lengths, source.left)}"
        )
    return Chunks(rows, lengths, source.view(sum(lengths)))


def _missing(lengths: tuple[int, ...], left: int) -> str:
    """Words that name the first chunk that is not whole in so many bytes; none if all are there."""
    ends = accumulate(lengths)
    return next((f". Chunk {k} of {len(lengths)} is missing" for k, end in enumerate(ends) if end > left), "")
