"""Tensors in chunks below a graph: tables of chunks that claim what is not there, or much for a few bytes."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from laconic.pack.codecs.integers import CHECKSUM_MASK
from laconic.pack.codecs.order0 import Table
from laconic.pack.codecs.symbols import StreamWriter
from laconic.pack.graph.ops import make_node as node
from laconic.pack.graph.section import encode_graph
from laconic.pack.wire.chunks import Chunks
from laconic.pack.wire.grids import Grids
from laconic.pack.wire.headers import Header, put_header
from laconic.pack.wire.names import put_names
from laconic.records import Graph, UniformGrid, ValueSpec
from laconic.varint import Writer
from tests.pack.chunked import framed

ROWS, WIDTH = 128, 32
"""Of a chunk, which has the fewest entries that are allowed: 4,096."""

_CONSTANT = Table(0, 0, (1,))  # zeros alone: no bits for any
_TERNARY = Table(-1, 0, (1, 8, 1))


def _stream(rows: int = ROWS, table: Table = _CONSTANT, wrong: int = 0) -> bytes:
    """The symbol stream of a chunk of zeros; ``wrong`` changes bits of its checksum."""
    out, entries = StreamWriter(), rows * WIDTH
    out.draws(table.array(), entries, np.full(entries, -table.lowest, np.int32))
    return out.finish((zlib.crc32(bytes(entries)) ^ wrong) & CHECKSUM_MASK)


def _file(
    lengths: Sequence[int],
    data: bytes,
    rows: int = ROWS,
    shape: tuple[int, ...] = (2 * ROWS, WIDTH),
    table: Table = _CONSTANT,
    inputs: int = WIDTH,
) -> bytes:
    """A linear layer on a tensor "w" with these chunks, whatever they claim."""
    graph = Graph((ValueSpec("float32", (None, inputs)),), (node("linear", (0, -1)),), (1,))
    body = Writer()
    body.block(encode_graph(graph))
    body.raw(b"\1\0")
    put_names(body, ["w"])
    header = Header(shape, UniformGrid(0.5), table, chunks=Chunks(rows, tuple(lengths), data))
    put_header(body, header, None, Grids())
    body.raw(StreamWriter().finish(0))
    return framed(bytes(body.data))


def _two(
    first: int = 0, second: int = 0, rows: int = ROWS, shape: tuple[int, ...] = (2 * ROWS, WIDTH)
) -> bytes:
    """Two chunks whose lengths are changed by these numbers of bytes."""
    one = _stream(table=_TERNARY)
    return _file((len(one) + first, len(one) + second), one + one, rows, shape, _TERNARY)


def as_they_should_be() -> bytes:
    """Two chunks of zeros: what the other files differ from."""
    return _two()


def no_rows() -> bytes:
    """Chunks without rows: an endless number of them would be needed."""
    return _two(rows=0)


def more_rows_than_there_are() -> bytes:
    """A first chunk that ends beyond the tensor."""
    return _two(rows=2**40)


def length_of_nearly_64_bits() -> bytes:
    """A chunk of 2^63 bytes and some."""
    return _two(first=2**63)


def lengths_beyond_the_file() -> bytes:
    """Two chunks, each longer than the file."""
    return _two(2**31, 2**31)


def chunks_that_overlap() -> bytes:
    """The second chunk begins four bytes before the end of the first, where its stream does not."""
    return _two(-4, 4)


def last_chunk_cut_off() -> bytes:
    """Its last word is read as the file's stream."""
    return _two(second=-4)


def billions_of_chunks() -> bytes:
    """2^32 rows of 4,096 entries, each row a chunk, and a table of two lengths."""
    one = _stream()
    return _file((len(one),) * 2, one * 2, 1, (2**32, 2**12), inputs=2**12)


def more_chunks_than_bytes() -> bytes:
    """2^14 chunks in some twenty bytes."""
    one = _stream()
    return _file((len(one),) * 2, one * 2, 1, (2**14, 2**12), inputs=2**12)


def thousands_of_the_smallest_chunks() -> bytes:
    """6,000 chunks in 30 kB: 25 million entries, more than the default limit allows for this length."""
    one = _stream()
    return _file((len(one),) * 6000, one * 6000, ROWS, (6000 * ROWS, WIDTH))


def as_many_chunks_as_memory_allows() -> bytes:
    """Half a million entries in 128 chunks of five bytes."""
    one = _stream()
    return _file((len(one),) * 128, one * 128, ROWS, (128 * ROWS, WIDTH))


def wrong_checksum_in_the_last_of_many() -> bytes:
    """All the others are decoded before it is seen."""
    one = _stream()
    return _file((len(one),) * 128, one * 127 + _stream(wrong=1), ROWS, (128 * ROWS, WIDTH))


def graph_that_does_not_fit() -> bytes:
    """The layer reads 33 columns: refused before a chunk is decoded, though all of them are wrong."""
    one = _stream(wrong=1)
    return _file((len(one),) * 2, one * 2, inputs=WIDTH + 1)
