"""Encodes and decodes independent chunks of an integer tensor, with one thread per processor.

Each chunk is a separate symbol stream that depends on the header alone: adaptive counts are reset, and no
context of other tensors is used. So chunks are coded in any order, and one is read without the others. The
compiled coder releases the interpreter's lock (GIL).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from laconic.errors import at
from laconic.pack.codecs.compiled import coder, extension
from laconic.pack.codecs.integers import CHECKSUM_MASK, checksum, decode_integers, encode_integers
from laconic.pack.codecs.layouts import Trail
from laconic.pack.codecs.symbols import StreamReader, StreamWriter
from laconic.pack.threads import in_threads
from laconic.pack.wire.chunks import Chunks
from laconic.pack.wire.headers import Header
from laconic.records import IntArray
from laconic.records.tensors import extremes

if TYPE_CHECKING:
    from laconic.pack.file.choose import Plan


def encode_chunks(plan: Plan, integers: IntArray, rows: int, threads: int | None) -> Chunks:
    """A tensor's integers in chunks of ``rows`` indices of the first dimension.

    ``plan.integers`` are what is coded; ``integers``, whose checksum is kept, differ from them where there is
    a dictionary.
    """
    header, whole = plan.header, plan.header.shape
    width = integers.size // whole[0]

    def one(number: int) -> bytes:
        part = slice(number * rows, (number + 1) * rows)
        flat = slice(part.start * width, part.stop * width)
        shape = Chunks(rows, (), b"").shape(number, whole)
        symbols = None if plan.symbols is None else plan.symbols[flat]
        stream = StreamWriter(coder())
        piece = plan._replace(
            header=header._replace(shape=shape), integers=plan.integers[part], symbols=symbols
        )
        encode_integers(stream, piece, Trail())
        own = integers[part]
        return stream.finish(checksum(own, *extremes(own), 0) & CHECKSUM_MASK)

    streams = in_threads(one, range(-(-whole[0] // rows)), threads)
    return Chunks(rows, tuple(map(len, streams)), b"".join(streams))


class Decoded(NamedTuple):
    """Integers, the smallest and the largest of them."""

    integers: IntArray
    lowest: int
    highest: int


def decode_chunks(header: Header, chunks: Chunks, numbers: range, threads: int | None) -> Decoded:
    """The integers of consecutive chunks (at least one), concatenated along the first dimension.

    Raises a ``FileFormatError`` that names the first invalid chunk.
    """
    streams = chunks.streams()
    first = numbers.start * chunks.rows
    end = min(header.shape[0], numbers.stop * chunks.rows)
    out = np.empty((end - first, *header.shape[1:]), np.int32)

    def one(number: int) -> tuple[int, int]:
        with at(f"chunk {number}"):
            stream = StreamReader(bytes(streams[number]), extension(), coder())
            own = header._replace(shape=chunks.shape(number, header.shape), chunks=None)
            integers = decode_integers(stream, own, Trail())
            lowest, highest = extremes(integers)
            stream.finish(checksum(integers, lowest, highest, 0) & CHECKSUM_MASK)
            start = number * chunks.rows - first
            out[start : start + len(integers)] = integers
            return lowest, highest

    found = in_threads(one, numbers, threads)
    return Decoded(out, min(lowest for lowest, _ in found), max(highest for _, highest in found))
