"""The bytes of each section of a file."""

from __future__ import annotations

import numpy as np

from laconic.pack.codecs.order0 import Table
from laconic.pack.codecs.settings import Mix
from laconic.pack.file.container import CRC_BYTES, KEPT_ONNX, each_tensor, take_apart
from laconic.pack.file.tensors import Decoded
from laconic.pack.wire.headers import Header, KindHeader
from laconic.records import SectionRow
from laconic.records.limits import DEFAULT, Limits


def layout(data: bytes, *, limits: Limits = DEFAULT) -> tuple[SectionRow, ...]:
    """The sections of a .lac file in order; their ``bytes`` add up to ``len(data)``.

    The network is not run, and one tensor at a time is decoded. A tensor's bytes are its header, its chunks,
    and its share of the common symbol stream, rounded so that the shares add up; the
    note gives the codec and the bytes of the header.

    Args:
        data: The whole file.
        limits: As for ``decode``.

    Returns:
        One row per section and per tensor, sizes in bytes.

    Raises:
        FileFormatError: The file is invalid; see ``decode``.

    >>> from laconic.pack import encode
    >>> from laconic.records import IntTensor, PackedModel, UniformGrid
    >>> data = encode(PackedModel((IntTensor("w", np.array([0, 1], np.int32), UniformGrid(0.5)),)))
    >>> sum(row.bytes for row in layout(data)) == len(data)
    True
    """
    parts = take_apart(data, limits)
    rows = [SectionRow("header", "magic, version, length", parts.head_bytes)]
    rows.append(SectionRow("graph", "", parts.graph_bytes, note="" if parts.graph else "weights only"))
    rows.append(SectionRow("names", "", parts.names_bytes))
    if parts.aliases:
        count = len(parts.aliases)
        rows.append(SectionRow("aliases", "", parts.aliases_bytes, note=f"{count} shared"))
    left = len(parts.stream)
    for decoded in each_tensor(parts, limits, len(data)):
        after = min(left, round(decoded.bits_left / 8))
        rows.append(_tensor_row(decoded, left - after))
        left = after
        del decoded  # before the next one is decoded
    rows.append(SectionRow("checksums", "of the integers, of the file", left + CRC_BYTES))
    return tuple(rows)


def _tensor_row(decoded: Decoded, stream_bytes: int) -> SectionRow:
    tensor, total = decoded.tensor, decoded.header_bytes + stream_bytes
    if tensor.name == KEPT_ONNX:
        return SectionRow("graph", "kept, ONNX without its weights", total)
    note = tensor.layout
    if not isinstance(decoded.header, np.ndarray):
        header_bytes = decoded.header_bytes - _chunk_bytes(decoded.header)
        note = f"{_codec(decoded.header)}, header {header_bytes} B"
    return SectionRow(
        "tensor", tensor.name, total, tensor.shape, tensor.size, tensor.nonzeros(), tensor.distinct(), note
    )


def _codec(header: Header | KindHeader) -> str:
    if isinstance(header, KindHeader):
        return header.kind.told(header.fields)
    codec = "adaptive"
    if isinstance(header.model, Table):
        codec = "static"
    elif isinstance(header.model, Mix):
        codec = "mixed"
    return codec if header.chunks is None else f"{codec} in {len(header.chunks.lengths)} chunks"


def _chunk_bytes(header: Header | KindHeader) -> int:
    """Bytes of chunks, which follow the headers of a tensor and of its parts."""
    if isinstance(header, KindHeader):
        parts = sum(_chunk_bytes(part) for part in header.parts if isinstance(part, Header))
        return parts + header.coded_bytes
    return 0 if header.chunks is None else len(header.chunks.data)
