"""Elements of one tensor, chunk by chunk: beside the result, only the chunks in work take memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from laconic.errors import CorruptFileError, at
from laconic.pack.file.chunks import decode_chunks
from laconic.pack.threads import in_threads
from laconic.pack.wire.chunks import Chunks
from laconic.pack.wire.headers import Header, Item, KindHeader
from laconic.records import IntArray, IntTensor, Tensor
from laconic.records.children import ShiftedTensor, add_in_place, integers_of
from laconic.records.element_types import ByteArray, ElementType, element_type, rounded_bytes
from laconic.records.typed import RoundedTensor, elements_of

_PIECE = 1 << 16  # integers that are converted at once, in the cache


class Chunked(NamedTuple):
    """The header of integers in chunks, the chunks, and the type that their values are rounded to.

    ``added``: the integers are added to those of the parent's tensor.
    """

    header: Header
    chunks: Chunks
    kind: ElementType
    added: bool = False

    @property
    def chunk_entries(self) -> int:
        """Entries of the largest chunk."""
        rows = max(1, self.header.shape[0])
        return self.header.size // rows * self.chunks.rows


def chunked(item: Item) -> Chunked | None:
    """A tensor whose elements follow from one tensor of integers in chunks; None for any other."""
    if isinstance(item, Header):
        return None if item.chunks is None else Chunked(item, item.chunks, element_type("float32"))
    if not isinstance(item, KindHeader) or item.kind.record not in (RoundedTensor, ShiftedTensor):
        return None
    (part,) = item.parts
    if not isinstance(part, Header) or part.chunks is None or part.shape != item.shape:
        return None
    kind = element_type(item.kind.type_name(item.fields))
    return Chunked(part, part.chunks, kind, item.kind.record is ShiftedTensor)


def decode_elements(found: Chunked, threads: int | None) -> ByteArray:
    """The little-endian bytes of the elements.

    Raises a ``FileFormatError`` that names the first invalid chunk.
    """
    header, chunks = found.header, found.chunks
    width = found.kind.bytes * (header.size // max(1, header.shape[0]))
    out = np.empty(header.size * found.kind.bytes, np.uint8)

    def one(number: int) -> None:
        own = decode_chunks(header, chunks, range(number, number + 1), 1)
        first = number * chunks.rows
        grid = header.grid.take(0, np.arange(first, first + len(own.integers)))
        with at(f"chunk {number}"):
            why = grid.problem(own.integers, own.lowest, own.highest)
            if why is not None:
                raise CorruptFileError(why)
        values = IntTensor("", own.integers, grid).values()
        out[first * width : (first + len(own.integers)) * width] = rounded_bytes(values, found.kind.name)

    in_threads(one, range(len(chunks.lengths)), threads)
    return out


def rounded_in_pieces(tensor: Tensor, kind: ElementType) -> ByteArray:
    """The little-endian bytes of the values of integers on a grid, some rows at a time.

    >>> from laconic.records import UniformGrid
    >>> tensor = IntTensor("w", np.array([[2, -2]], np.int32), UniformGrid(0.5))
    >>> rounded_in_pieces(tensor, element_type("float16")).tolist()
    [0, 60, 0, 188]
    """
    inner = integers_of(tensor)
    if inner is None:
        return elements_of(tensor)
    integers, rows = inner.integers, len(inner.integers)
    columns = max(1, integers.size // max(1, rows))
    out, height = np.empty(integers.size * kind.bytes, np.uint8), max(1, _PIECE // columns)
    for first in range(0, rows, height):
        own = integers[first : first + height]
        grid = inner.grid.take(0, np.arange(first, first + len(own)))
        start = first * columns * kind.bytes
        out[start : start + own.size * kind.bytes] = rounded_bytes(grid.dequantize(own), kind.name)
    return out


def add_chunks(found: Chunked, integers: IntArray, threads: int | None) -> None:
    """Add the integers of all chunks to an array of the same shape, in place.

    Raises ``InputError`` for a sum that leaves 32 bits, else as :func:`decode_elements`.
    """

    def one(number: int) -> None:
        own = decode_chunks(found.header, found.chunks, range(number, number + 1), 1).integers
        first = number * found.chunks.rows
        add_in_place(integers[first : first + len(own)], own)

    in_threads(one, range(len(found.chunks.lengths)), threads)
