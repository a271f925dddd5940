"""Files whose small tensors are in chunks, which our encoder does with large ones alone."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from laconic.pack import MAGIC
from laconic.pack.codecs.compiled import coder
from laconic.pack.codecs.integers import CHECKSUM_MASK, checksum, encode_integers
from laconic.pack.codecs.layouts import Trail
from laconic.pack.codecs.symbols import StreamWriter
from laconic.pack.file.choose import plan_tensor
from laconic.pack.file.chunks import encode_chunks
from laconic.pack.graph.section import encode_graph
from laconic.pack.wire.grids import Grids
from laconic.pack.wire.headers import put_header
from laconic.pack.wire.names import put_names
from laconic.records import Graph, IntTensor
from laconic.varint import Writer


def chunked_file(tensors: Sequence[tuple[IntTensor, int]], graph: Graph | None = None) -> bytes:
    """A file of these tensors, each in chunks of so many rows, or in the file's own stream (0)."""
    body, grids, trail, stream, total = Writer(), Grids(), Trail(), StreamWriter(coder()), 0
    body.block(b"" if graph is None else encode_graph(graph))
    body.raw(bytes([len(tensors), 0]))
    put_names(body, [tensor.name for tensor, _ in tensors])
    for tensor, rows in tensors:
        if rows:
            plan = plan_tensor(tensor, Trail())
            chunks = encode_chunks(plan, tensor.integers, rows, 1)
            put_header(body, plan.header._replace(chunks=chunks), trail.rows, grids)
            trail = trail.after_chunks(tensor.shape)
            continue
        plan = plan_tensor(tensor, trail)
        put_header(body, plan.header, trail.rows, grids)
        encode_integers(stream, plan, trail)
        total = checksum(tensor.integers, plan.lowest, plan.highest, total)
        trail = trail.after(tensor.integers, tensor.grid.zero)
    body.raw(stream.finish(total & CHECKSUM_MASK))
    return framed(bytes(body.data))


def framed(body: bytes) -> bytes:
    """A file with this content, whose length and checksum are right."""
    head = Writer()
    head.raw(MAGIC + b"\x01")
    head.varint(len(body) + 4)
    data = bytes(head.data) + body
    return data + zlib.crc32(data).to_bytes(4, "little")
