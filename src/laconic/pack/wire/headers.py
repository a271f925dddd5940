"""The header of a tensor: codec, shape, grid, table or settings (FORMAT.md, "Tensor header")."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from laconic.errors import CorruptFileError
from laconic.pack.codecs.order0 import MAX_CLASSES, Table
from laconic.pack.codecs.settings import Mix, Settings
from laconic.pack.wire.chunks import CHUNKED, Chunks, get_chunks, put_chunks
from laconic.pack.wire.grids import (
    CODEBOOK,
    PER_CHANNEL,
    SHARED,
    SHORT_FLOATS,
    Grids,
    get_grid,
    grid_bits,
    put_grid,
)
from laconic.records import AnyArray, Grid
from laconic.records.limits import Limits
from laconic.varint import Reader, Writer

if TYPE_CHECKING:
    from laconic.pack.kinds import Kind

RAW, ORDER0, ADAPTIVE, OTHER = range(4)
# Closed table of raw element types, all little-endian. Append, never change.
RAW_TYPES = ("float32", "float16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")
MIXED = 3 | 9 << 2
"""Precedes the header of a tensor under the mixing model: code 4 of the other kinds."""
MAX_RANK = 16
_ROWS, _DICTIONARY = 16, 32
_GRID = SHORT_FLOATS | CODEBOOK | PER_CHANNEL | SHARED


class Header(NamedTuple):
    """The header of an integer tensor. ``model``: a table (codec 1) or settings (codec 2 or 3).

    ``dictionary``: the values that the coded integers index, rising; empty when they are the values.
    ``geometry``: number of the geometry in use (codecs 2 and 3). ``chunks``: those with the symbols; None
    where these are in the file's own stream.
    """

    shape: tuple[int, ...]
    grid: Grid
    model: Table | Settings | Mix
    dictionary: tuple[int, ...] = ()
    geometry: int = 0
    chunks: Chunks | None = None

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)


class KindHeader(NamedTuple):
    """The header of a tensor of another kind: its shape, its fields, and its parts' headers."""

    kind: Kind
    shape: tuple[int, ...]
    fields: tuple[object, ...]
    parts: tuple[Header | AnyArray, ...]

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    @property
    def item_bytes(self) -> int:
        """Bytes of a decoded entry."""
        return self.kind.item_bytes(self.fields)

    @property
    def coded_bytes(self) -> int:
        """Bytes among the fields that hold entries."""
        return self.kind.coded_bytes(self.fields)

    @property
    def steps(self) -> int:
        """Upper bound on the steps (about a nanosecond each) to compute its values."""
        return self.kind.steps(self.shape, self.fields, tuple(part.shape for part in self.parts))

    @property
    def alone(self) -> KindHeader:
        """As it counts where the tensor is read without the others of its file."""
        return self._replace(fields=self.kind.alone(self.fields))


Item = Header | KindHeader | AnyArray
"""The header of an integer tensor or of one of another kind; a raw tensor's array."""


def put_header(out: Writer, header: Header, rows: int | None, grids: Grids) -> None:
    """``rows``: first dimension of the last matrix; a vector of that length needs no shape.

    ``grids``: those that earlier headers wrote in full.
    """
    if isinstance(header.model, Mix):
        out.byte(MIXED)
    if header.chunks is not None:
        out.byte(CHUNKED)
    head = ORDER0 if isinstance(header.model, Table) else ADAPTIVE
    inherits = len(header.shape) == 1 and header.shape[0] == rows
    bits = grid_bits(header.grid, grids)
    head |= bits | inherits * _ROWS | bool(header.dictionary) * _DICTIONARY
    out.byte(head)
    if not inherits:
        put_shape(out, header.shape)
    put_grid(out, header.grid, bits, grids)
    if header.dictionary:
        _put_dictionary(out, header.dictionary)
    if isinstance(header.model, Table):
        _put_table(out, header.model)
    elif isinstance(header.model, Mix):
        _put_mix(out, header.geometry, header.model)
    else:
        _put_settings(out, header, header.model)
    if header.chunks is not None:
        put_chunks(out, header.chunks)


def header_bits(header: Header, rows: int | None) -> int:
    """Size of a header, in bits; ``rows`` as in :func:`put_header`."""
    out = Writer()
    put_header(out, header, rows, Grids())
    return 8 * len(out.data)


def get_header(source: Reader, rows: int | None, limits: Limits, grids: Grids) -> Header | AnyArray:
    """The header of an integer tensor, or a raw tensor's array, which follows its header at once.

    A tensor in chunks gives its header, with the chunks, which follow it at once.
    """
    mixed = source.peek() == MIXED
    if mixed:
        source.byte()
    if source.peek() != CHUNKED:
        return _one_header(source, rows, limits, grids, mixed)
    source.byte()
    header = _one_header(source, rows, limits, grids, mixed)
    if not isinstance(header, Header):
        raise CorruptFileError("raw elements are said to be in chunks")
    return header._replace(chunks=get_chunks(source, header.shape))


def _one_header(
    source: Reader, rows: int | None, limits: Limits, grids: Grids, mixed: bool
) -> Header | AnyArray:
    head = source.byte()
    codec = head & 3
    if mixed and codec != ADAPTIVE:
        raise CorruptFileError(f"the header of a tensor under the mixing model starts with byte {head}")
    if codec == OTHER or (codec == RAW and head):
        raise CorruptFileError(f"no integer or raw tensor starts with byte {head}")
    if codec == RAW:
        return _get_raw(source, limits)
    if head & _ROWS and rows is None:
        raise CorruptFileError("a vector takes its length from a matrix that is not there")
    shape = (rows,) if head & _ROWS and rows is not None else get_shape(source, limits, 4)
    if len(shape) == 1 and shape[0] == rows and not head & _ROWS:
        raise CorruptFileError("a shape is not in its shortest form")
    grid = get_grid(source, head & _GRID, shape, limits, grids)
    dictionary = _get_dictionary(source) if head & _DICTIONARY else ()
    if codec == ORDER0:
        return Header(shape, grid, _get_table(source), dictionary)
    if mixed:
        mix, geometry = _get_mix(source)
        return Header(shape, grid, mix, dictionary, geometry)
    settings, geometry = _get_settings(source, shape)
    return Header(shape, grid, settings, dictionary, geometry)


# --- shapes and raw tensors -----------------------------------------------------------------------


def put_shape(out: Writer, shape: tuple[int, ...]) -> None:
    """The number of dimensions, then each."""
    out.varint(len(shape))
    for length in shape:
        out.varint(length)


def get_shape(source: Reader, limits: Limits, item_bytes: int) -> tuple[int, ...]:
    """A shape whose entries, of ``item_bytes`` each, are within the limits."""
    rank = source.varint()
    if rank > MAX_RANK:
        raise CorruptFileError(f"a tensor claims {rank} dimensions")
    shape = tuple(source.varint() for _ in range(rank))
    extent = math.prod(max(1, length) for length in shape)  # an empty tensor may not claim (0, 10^12) either
    limits.check("elements in one tensor", extent, limits.elements)
    limits.check("decoded bytes in one tensor", extent * item_bytes, limits.decoded_bytes)
    return shape


def put_raw(out: Writer, array: AnyArray) -> None:
    """Byte 0, the type's code, the shape, the elements little-endian in C order."""
    out.byte(RAW)
    out.byte(RAW_TYPES.index(array.dtype.name))
    put_shape(out, array.shape)
    out.raw(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())


def _get_raw(source: Reader, limits: Limits) -> AnyArray:
    code = source.byte()
    if code >= len(RAW_TYPES):
        raise CorruptFileError(f"no element type has code {code}")
    dtype = np.dtype(RAW_TYPES[code])
    shape = get_shape(source, limits, dtype.itemsize)
    data = source.raw(math.prod(shape) * dtype.itemsize)
    if dtype == np.bool_ and data.strip(b"\0\1"):
        raise CorruptFileError("a bool tensor holds a byte other than 0 and 1")
    return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype).reshape(shape)


# --- dictionaries --------------------------------------------------------------------------------------


def _put_dictionary(out: Writer, values: tuple[int, ...]) -> None:
    out.varint(len(values))
    out.signed(values[0])
    for a, b in zip(values, values[1:], strict=False):
        out.varint(b - a - 1)


def _get_dictionary(source: Reader) -> tuple[int, ...]:
    n = source.count("dictionary values")
    if n == 0:
        raise CorruptFileError("a dictionary is empty")
    values = [source.signed()]
    for _ in range(n - 1):
        values.append(values[-1] + 1 + source.varint())
    if values[0] < -(2**31) or values[-1] >= 2**31:
        raise CorruptFileError("a dictionary value does not fit 32 bits")
    return tuple(values)


# --- models -----------------------------------------------------------------------------------------


def _put_table(out: Writer, table: Table) -> None:
    out.signed(table.lowest)
    out.varint(len(table.counts) << 1 | bool(table.low_bits))
    if table.low_bits:
        out.byte(table.low_bits)
    if len(table.counts) > 1:
        for c in table.counts:
            out.varint(c)


def _get_table(source: Reader) -> Table:
    lowest, word = source.signed(), source.varint()
    classes, low_bits = word >> 1, source.byte() if word & 1 else 0
    if not (-(2**31) <= lowest < 2**31 and 1 <= classes <= MAX_CLASSES):
        raise CorruptFileError(f"a table of {classes} classes starts at {lowest}")
    counts = tuple(source.varint() for _ in range(classes)) if classes > 1 else (1,)
    if (word & 1 and (classes == 1 or not 0 < low_bits <= 20)) or lowest + (
        (classes - 1) << low_bits
    ) >= 2**31:
        raise CorruptFileError(f"a table spans {classes} classes of 2^{low_bits} values")
    if not (counts[0] and counts[-1] and sum(counts) <= 2**17):
        raise CorruptFileError(f"a table's counts add up to {sum(counts)}, or start or end with 0")
    return Table(lowest, low_bits, counts)


def _put_settings(out: Writer, header: Header, s: Settings) -> None:
    """A vector: classes and two flags in one integer. A matrix: density, 15 flag bits, classes."""
    announced = bool(s.low_bits) | bool(s.background) << 1
    if len(header.shape) < 2:
        out.varint(s.classes << 2 | announced)
    else:
        out.byte(s.density)
        word = s.row | s.column << 2 | s.channel << 4 | s.pixel << 6 | s.near << 8
        word |= header.geometry << 10 | s.sizes_near << 12 | announced << 13
        out.raw(word.to_bytes(2, "little"))
        out.varint(s.classes)
    if s.low_bits:
        out.byte(s.low_bits)
    if s.background:
        out.signed(s.background)


def _get_settings(source: Reader, shape: tuple[int, ...]) -> tuple[Settings, int]:
    density = word = 0
    if len(shape) < 2:
        word = source.varint()
        classes, announced, word = word >> 2, word & 3, 0
    else:
        density, word = source.byte(), int.from_bytes(source.raw(2), "little")
        classes, announced = source.varint(), word >> 13 & 3
    low_bits = source.byte() if announced & 1 else 0
    background = source.signed() if announced & 2 else 0
    if word >> 15 or not 1 <= classes <= MAX_CLASSES or low_bits > 31 or not -(2**31) <= background < 2**31:
        raise CorruptFileError("a tensor's adaptive settings are out of range")
    if announced != (bool(low_bits) | bool(background) << 1):
        raise CorruptFileError("a tensor's adaptive settings are not in their shortest form")
    row, column, channel, pixel, near, geometry = (word >> shift & 3 for shift in (0, 2, 4, 6, 8, 10))
    apart = bool(word >> 12 & 1)
    settings = Settings(density, classes, low_bits, background, row, column, channel, pixel, near, apart)
    return settings, geometry


def _put_mix(out: Writer, geometry: int, mix: Mix) -> None:
    """One byte: geometry, order, whether a background follows."""
    out.byte(geometry | mix.by_columns << 2 | bool(mix.background) << 3)
    if mix.background:
        out.signed(mix.background)


def _get_mix(source: Reader) -> tuple[Mix, int]:
    word = source.byte()
    background = source.signed() if word >> 3 & 1 else 0
    if word >> 4 or bool(background) != bool(word >> 3 & 1) or not -(2**31) <= background < 2**31:
        raise CorruptFileError("the settings of a tensor under the mixing model are out of range")
    return Mix(background, bool(word >> 2 & 1)), word & 3
