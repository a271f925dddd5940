"""The whole file: magic, version, length, graph, names, tensors, checksums (FORMAT.md)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import NamedTuple

from laconic.errors import (
    ChecksumError,
    CorruptFileError,
    InputError,
    NotALaconicFileError,
    TruncatedFileError,
    UnsupportedVersionError,
    at,
)
from laconic.pack.codecs.compiled import coder, extension
from laconic.pack.codecs.symbols import StreamReader
from laconic.pack.file.needs import decoding, listing
from laconic.pack.file.tensors import Decoded, TensorWriter, read_tensors
from laconic.pack.wire.header_list import check_density, read_headers
from laconic.pack.wire.headers import Item, KindHeader
from laconic.pack.wire.names import get_names, put_names
from laconic.pack.wire.notes import Notes, read_notes
from laconic.records import Graph, PackedModel
from laconic.records.limits import DEFAULT, Limits
from laconic.varint import Reader, Writer

MAGIC = b"LAC"
VERSION = 1
CRC_BYTES = 4
_CRC_PIECE = 1 << 24
KEPT_ONNX = "@onnx"
"""The name of the tensor that holds an ONNX model without its weights (FORMAT.md, "A kept ONNX model")."""


def encode(model: PackedModel, *, threads: int | None = None) -> bytes:
    """A packed model as the bytes of a .lac file. The same model gives the same bytes.

    Args:
        model: Tensors, aliases, and a graph or None.
        threads: Threads that code the chunks of large tensors (None: one per processor); same bytes.

    Returns:
        The whole file.

    Raises:
        InputError: Names that are not unique, an alias without a target, or a tensor, grid or graph that the
            format cannot hold; it names the tensor.

    >>> import numpy as np
    >>> from laconic.records import IntTensor, UniformGrid
    >>> tensor = IntTensor("fc.weight", np.array([[0, 1, 0], [0, -1, 2]], np.int32), UniformGrid(0.5))
    >>> data = encode(PackedModel((tensor,)))
    >>> decode(data).tensors[0].values().tolist()
    [[0.0, 0.5, 0.0], [0.0, -0.5, 1.0]]
    """
    names = [tensor.name for tensor in model.tensors]
    body = Writer()
    put_head(body, _graph_bytes(model.graph), names, sorted(model.aliases.items()))
    tensors = TensorWriter(body, threads)
    for tensor in model.tensors:
        tensors.add(tensor)
    body.raw(tensors.finish())
    data = frame_head(len(body.data)) + bytes(body.data)
    return data + zlib.crc32(data).to_bytes(CRC_BYTES, "little")


def frame_head(body_bytes: int) -> bytes:
    """Magic, version and length of a file whose content, without the checksum, has so many bytes."""
    head = Writer()
    head.raw(MAGIC)
    head.byte(VERSION)
    head.varint(body_bytes + CRC_BYTES)
    return bytes(head.data)


def _check_names(names: list[str], aliases: list[tuple[str, str]]) -> None:
    known = set(names)
    if len(known) != len(names):
        twice = min(name for name in known if names.count(name) > 1)
        raise InputError(f"two tensors are called {twice!r}. Cure: rename one")
    for alias, target in aliases:
        if target not in known:
            raise InputError(
                f"alias {alias!r} refers to {target!r}, which is not a tensor of the model. Cure: a target "
                "among the tensors' names"
            )
        if alias in known:
            raise InputError(f"alias {alias!r} is also the name of a tensor. Cure: rename one")


def _graph_bytes(graph: Graph | None) -> bytes:
    if graph is None:
        return b""
    from laconic.pack.graph.section import encode_graph

    with at("packing the graph"):
        return encode_graph(graph)


class Parts(NamedTuple):
    """A parsed file whose symbols are not yet decoded; the byte counts are those of ``layout``'s rows."""

    head_bytes: int
    graph: bytes
    graph_bytes: int
    names: tuple[str, ...]
    names_bytes: int
    aliases: dict[str, str]
    aliases_bytes: int
    headers: list[tuple[Item, int]]
    stream: bytes
    notes: Notes | None


def take_apart(data: bytes, limits: Limits) -> Parts:
    """Check magic, version, length and checksum, then read everything before the stream."""
    body, head_bytes = _body(data)
    source = Reader(body, "the file")
    head = read_head(source, limits)
    at_tensors = source.at
    headers = read_headers(source, head.names, limits)
    check_density((item for item, _ in headers), source.left, limits)
    if head.notes is None:
        _check_kinds(headers, head.names)
    return Parts(
        head_bytes,
        head.graph,
        head.at_names,
        head.names,
        head.at_aliases - head.at_names,
        head.aliases,
        at_tensors - head.at_aliases,
        headers,
        source.raw(source.left),
        head.notes,
    )


def crc_of(data: memoryview) -> int:
    """CRC-32 of bytes that may be mapped from a file."""
    total = 0
    for start in range(0, len(data), _CRC_PIECE):
        total = zlib.crc32(data[start : start + _CRC_PIECE], total)
    return total


class Head(NamedTuple):
    """What stands before the tensors: the graph or the notes, names and aliases, and where these begin."""

    graph: bytes
    notes: Notes | None
    names: tuple[str, ...]
    aliases: dict[str, str]
    at_names: int
    at_aliases: int


def read_head(source: Reader, limits: Limits) -> Head:
    """Graph or notes, counts, names and aliases."""
    graph = source.block("graph bytes")
    notes = read_notes(graph)
    at_names = source.at
    n_tensors, n_aliases = source.varint(), source.varint()
    limits.check("tensors and aliases", n_tensors + n_aliases, limits.tensors)
    names = get_names(source, n_tensors + n_aliases, limits)
    at_aliases = source.at
    targets = [source.varint() for _ in range(n_aliases)]
    if any(t >= n_tensors for t in targets) or list(names[n_tensors:]) != sorted(names[n_tensors:]):
        raise CorruptFileError("an alias refers to no tensor, or aliases are out of order")
    aliases = {alias: names[t] for alias, t in zip(names[n_tensors:], targets, strict=True)}
    return Head(graph if notes is None else b"", notes, names[:n_tensors], aliases, at_names, at_aliases)


def put_head(out: Writer, graph: bytes, names: list[str], aliases: list[tuple[str, str]]) -> None:
    """The inverse of :func:`read_head`; ``aliases`` in rising order."""
    _check_names(names, aliases)
    out.block(graph)
    out.varint(len(names))
    out.varint(len(aliases))
    put_names(out, names + [alias for alias, _ in aliases])
    places = {name: k for k, name in enumerate(names)}
    for _, target in aliases:
        out.varint(places[target])


def _check_kinds(headers: list[tuple[Item, int]], names: tuple[str, ...]) -> None:
    """Refuse kinds that only a checkpoint may hold in a file with a graph."""
    for (item, _), name in zip(headers, names, strict=True):
        if isinstance(item, KindHeader) and item.kind.without_graph:
            raise CorruptFileError(
                f"tensor {name!r}: the kind {item.kind.name!r} stands in files without a graph alone"
            )


def read_frame(data: bytes | memoryview) -> tuple[Reader, int]:
    """Check magic and version; a reader after the length, and the length, which may leave the file.

    Raises ``CorruptFileError`` where bytes follow the content.
    """
    start = bytes(data[: len(MAGIC)])
    if start != MAGIC[: len(start)] or not start:
        raise NotALaconicFileError(
            "the file does not start with the bytes of a .lac file. "
            "Cure: a file that laconic.save or laconic compress wrote"
        )
    source = Reader(data, "the file")
    source.raw(len(MAGIC))
    version = source.byte()
    if version != VERSION:
        raise UnsupportedVersionError(
            f"the file has format version {version}, this library reads version {VERSION}. "
            "Cure: use the library version that wrote it, or a newer one"
        )
    length = source.varint()
    if CRC_BYTES <= length < source.left:
        raise CorruptFileError(f"{source.left - length} bytes follow the end of the file's content")
    return source, length


def check_length(source: Reader, length: int) -> None:
    """Refuse a file that is shorter than it says."""
    if length > source.left or length < CRC_BYTES:
        raise TruncatedFileError(f"the file declares {length} bytes of content and holds {source.left}")


def _body(data: bytes) -> tuple[memoryview, int]:
    """The bytes between length and checksum, and the number of bytes before them."""
    source, length = read_frame(data)
    check_length(source, length)
    stored = int.from_bytes(data[-CRC_BYTES:], "little")
    computed = zlib.crc32(memoryview(data)[:-CRC_BYTES])
    if stored != computed:
        raise ChecksumError(
            f"the file's checksum is {stored:08x}, its content has {computed:08x}: it is damaged"
        )
    return memoryview(data)[source.at : len(data) - CRC_BYTES], source.at


def decode(data: bytes, *, limits: Limits = DEFAULT, threads: int | None = None) -> PackedModel:
    """The model that the bytes of a .lac file hold; see :func:`encode`.

    Args:
        data: The whole file.
        limits: What the file may claim, and the memory and work that decoding may take.
        threads: Threads that decode chunks of large tensors (None: one per processor); same result.

    Returns:
        The model: the same integers, grids and graph as were encoded.

    Raises:
        FileFormatError: The file is invalid; the subclass is the kind of fault, the message says where.
        LimitError: It takes more than the limits allow; raised before anything large is allocated.

    >>> import numpy as np
    >>> from laconic.records import RawTensor
    >>> decode(encode(PackedModel((RawTensor("w", np.ones(2, np.float32)),)))).tensors[0].values().tolist()
    [1.0, 1.0]
    """
    parts = take_apart(data, limits)
    graph = decoded_graph(parts, limits)
    tensors = decode_tensors(parts, limits, len(data), threads)
    return PackedModel(tuple(d.tensor for d in tensors), graph, parts.aliases)


def decode_tensors(
    parts: Parts, limits: Limits, file_bytes: int, threads: int | None = None
) -> list[Decoded]:
    """All tensors of a file of this length, checked; chunks in this many threads (None: one per processor).

    Raises ``LimitError`` for tensors that take more memory or work than the limits allow.
    """
    limits.check_load(*decoding(parts, file_bytes), file_bytes)
    return list(_in_order(parts, threads))


def each_tensor(parts: Parts, limits: Limits, file_bytes: int) -> Iterator[Decoded]:
    """The tensors one after the other; one that the caller drops takes no more memory.

    Raises as :func:`decode_tensors`.
    """
    needed = listing(parts, file_bytes, limits.allowed_memory(file_bytes))
    limits.check_load(needed.memory, needed.work, file_bytes)
    return _in_order(parts, needed.threads)


def _in_order(parts: Parts, threads: int | None) -> Iterator[Decoded]:
    stream = StreamReader(parts.stream, extension(), coder())
    return read_tensors(stream, parts.headers, parts.names, threads)


def decoded_graph(parts: Parts, limits: Limits = DEFAULT) -> Graph | None:
    """The file's graph; None for a weights-only file."""
    if not parts.graph:
        return None
    from laconic.pack.graph.section import decode_graph

    return decode_graph(parts.graph, len(parts.names), limits)
