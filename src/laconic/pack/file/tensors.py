"""Tensors into the stream and out of it: header, model, checksum of the integers."""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from laconic.errors import CorruptFileError, InputError, at
from laconic.pack.codecs import order0
from laconic.pack.codecs.adaptive import code_matrix
from laconic.pack.codecs.compiled import coder
from laconic.pack.codecs.layouts import Trail, geometries, matrix_shape
from laconic.pack.codecs.order0 import Table
from laconic.pack.codecs.settings import MAX_ENTRIES, MAX_LINES, Settings
from laconic.pack.codecs.symbols import Coder, StreamReader, StreamWriter
from laconic.pack.wire.headers import MAX_RANK, RAW_TYPES, Header, get_header, put_header, put_raw
from laconic.pack.wire.limits import Limits
from laconic.pack.wire.varint import Reader, Writer
from laconic.records import AnyArray, Codebook, Grid, IntArray, IntTensor, RawTensor, Tensor, UniformGrid

if TYPE_CHECKING:
    from laconic.pack.encoder.choose import Plan

CHECKSUM_MASK = 2**31 - 1
ENTRIES_PER_BYTE = 2048
_LARGEST = float(np.finfo(np.float32).max)


def checksum(integers: IntArray, lowest: int, highest: int, before: int) -> int:
    """CRC-32 of the integers as the narrowest of int8, int16 and int32, continuing ``before``."""
    width = 1 if lowest >= -(2**7) and highest < 2**7 else 2 if lowest >= -(2**15) and highest < 2**15 else 4
    narrow: AnyArray = np.ascontiguousarray(integers.reshape(-1), dtype=f"<i{width}")
    return zlib.crc32(narrow.data, before)


def zero_of(grid: Grid) -> int:
    """The integer whose value is zero, or -1 when the grid has none."""
    if isinstance(grid, Codebook):
        return grid.levels.index(0.0) if 0.0 in grid.levels else -1
    return 0


# --- encoding -------------------------------------------------------------------------------------


class TensorWriter:
    """Appends tensors to a head (bytes) and a stream (symbols)."""

    def __init__(self, head: Writer) -> None:
        self._head = head
        self._stream = StreamWriter(coder())
        self._trail = Trail()
        self._sum = 0

    def add(self, tensor: Tensor) -> None:
        """Append one tensor; raises ``InputError`` for what the format cannot say."""
        check_tensor(tensor)
        if isinstance(tensor, RawTensor):
            put_raw(self._head, tensor.array)
            return
        from laconic.pack.encoder.choose import plan_tensor  # readers do without

        plan = plan_tensor(tensor, self._trail)
        put_header(self._head, plan.header, self._trail.rows)
        _encode(self._stream, plan, self._trail)
        self._sum = checksum(tensor.integers, plan.lowest, plan.highest, self._sum)
        self._trail = self._trail.after(tensor.integers, zero_of(tensor.grid))

    def finish(self) -> bytes:
        """The stream's bytes."""
        return self._stream.finish(self._sum & CHECKSUM_MASK)


def check_tensor(tensor: Tensor) -> None:
    """Refuse a tensor that the format cannot hold, naming it."""
    array: AnyArray = tensor.array if isinstance(tensor, RawTensor) else tensor.integers
    with at(f"packing tensor {tensor.name!r}"):
        if array.ndim > MAX_RANK:
            raise InputError(f"it has {array.ndim} dimensions, the format holds {MAX_RANK}")
        if isinstance(tensor, RawTensor) and array.dtype.name not in RAW_TYPES:
            raise InputError(f"type {array.dtype} cannot be stored. Cure: convert it to one of {RAW_TYPES}")
        if isinstance(tensor, IntTensor):
            if array.dtype != np.int32:
                raise InputError(f"integers must be int32, got {array.dtype}")
            check_levels(tensor.grid, *extremes(array), InputError)


def extremes(integers: IntArray) -> tuple[int, int]:
    """Smallest and largest entry; (0, 0) of an empty array."""
    return (int(integers.min()), int(integers.max())) if integers.size else (0, 0)


def check_levels(grid: Grid, lowest: int, highest: int, error: type[Exception]) -> None:
    """Raise ``error`` when integers within these extremes leave their codebook, or float32."""
    if isinstance(grid, UniformGrid):
        if max(-lowest, highest) * grid.step > _LARGEST:
            raise error(f"integers {lowest}..{highest} times the step {grid.step} leave the range of float32")
    elif lowest < 0 or highest >= len(grid.levels):
        raise error(f"indices {lowest}..{highest} leave a codebook of {len(grid.levels)} levels")


def _encode(coder: Coder, plan: Plan, trail: Trail) -> None:
    header = plan.header
    if isinstance(header.model, Settings):
        shape = matrix_shape(header.shape)
        levels = plan.integers.reshape(shape).astype(np.int64) - header.model.background
        geometry = geometries(header.shape, trail.rows)[header.geometry]
        code_matrix(coder, shape, header.model, geometry, trail.hint(shape[1]), levels)
    elif plan.symbols is not None:
        order0.write(coder, header.model, plan.integers, plan.symbols)


def coded_bits(tensor: IntTensor) -> float:
    """Size of one tensor's header and symbols, alone in a file, in bits (graph, name and checksums excluded).

    >>> from laconic.records import UniformGrid
    >>> coded_bits(IntTensor("w", np.zeros((500, 800), np.int32), UniformGrid(1.0)))
    80.0
    """
    from laconic.pack.encoder.choose import header_bits, plan_tensor

    check_tensor(tensor)
    plan = plan_tensor(tensor, Trail())
    return header_bits(plan.header, Trail()) + plan.bits


# --- decoding -------------------------------------------------------------------------------------


class Decoded(NamedTuple):
    """A tensor, the bytes of its header, and what was left of the stream after it, in bits."""

    tensor: Tensor
    header_bytes: int
    bits_left: int
    header: Header | None


def read_headers(source: Reader, n: int, limits: Limits) -> list[tuple[Header | AnyArray, int]]:
    """All tensor headers (raw tensors whole) with their sizes; totals are checked against the limits."""
    found: list[tuple[Header | AnyArray, int]] = []
    rows: int | None = None
    elements = total = constants = lines = levels = 0
    for _ in range(n):
        start = source.at
        item = get_header(source, rows, limits)
        found.append((item, source.at - start))
        elements += item.size
        total += item.nbytes if isinstance(item, np.ndarray) else 4 * item.size
        limits.check("elements", elements, limits.elements)
        limits.check("decoded bytes", total, limits.decoded_bytes)
        if isinstance(item, Header) and isinstance(item.model, Table) and len(item.model.counts) == 1:
            constants += item.size
            limits.check("elements of constant tensors", constants, limits.constants)
        if isinstance(item, Header):
            levels += len(item.dictionary) + (len(item.grid.levels) if isinstance(item.grid, Codebook) else 1)
            limits.check("levels of codebooks and values of dictionaries", levels, limits.levels)
            lines += _lines_of(item)
            limits.check("rows and columns of adaptive tensors", lines, limits.lines)
            rows = item.shape[0] if len(item.shape) > 1 else rows
    return found


def check_density(items: list[Header | AnyArray], stream_bytes: int, limits: Limits) -> None:
    """Entries that can take next to no bits are as cheap to claim as constants, so they share their limit."""
    coded = sum(item.size for item in items if isinstance(item, Header))
    beyond = coded - ENTRIES_PER_BYTE * stream_bytes
    limits.check("elements that take almost no bits", beyond, limits.constants)


def _lines_of(header: Header) -> int:
    """Rows and columns that the adaptive codec visits; a shape that no writer gives it is refused."""
    if not isinstance(header.model, Settings):
        return 0
    rows, columns = matrix_shape(header.shape)
    if rows + columns > MAX_LINES or rows * columns > MAX_ENTRIES:
        raise CorruptFileError(f"an adaptive tensor has shape {header.shape}, too large for that codec")
    if rows * columns == 0:
        raise CorruptFileError(f"an adaptive tensor has shape {header.shape}, so it has nothing to code")
    return rows + columns


def read_tensors(
    stream: StreamReader, headers: list[tuple[Header | AnyArray, int]], names: tuple[str, ...]
) -> list[Decoded]:
    """Decode all tensors in order and check the stream's end."""
    found: list[Decoded] = []
    trail, total = Trail(), 0
    for (item, header_bytes), name in zip(headers, names, strict=True):
        if not isinstance(item, Header):
            found.append(Decoded(RawTensor(name, item), header_bytes, stream.left_bits(), None))
            continue
        with at(f"tensor {name!r}"):
            integers = _decode(stream, item, trail)
            lowest, highest = extremes(integers)
            check_levels(item.grid, lowest, highest, CorruptFileError)
        total = checksum(integers, lowest, highest, total)
        trail = trail.after(integers, zero_of(item.grid))
        tensor = IntTensor(name, integers, item.grid)
        found.append(Decoded(tensor, header_bytes, stream.left_bits(), item))
    stream.finish(total & CHECKSUM_MASK)
    return found


def _decode(stream: StreamReader, header: Header, trail: Trail) -> IntArray:
    if isinstance(header.model, Settings):
        shape, background = matrix_shape(header.shape), header.model.background
        geometry = geometries(header.shape, trail.rows)[header.geometry]
        found = code_matrix(stream, shape, header.model, geometry, trail.hint(shape[1]), None)
        values = found.values + background
        if values.size and not -(2**31) <= int(values.min()) <= int(values.max()) < 2**31:
            raise CorruptFileError("a coded integer does not fit 32 bits")
        integers = np.full(shape, background, np.int32) if background else np.zeros(shape, np.int32)
        integers[found.rows, found.columns] = values
    else:
        integers = order0.read(stream, header.model, math.prod(header.shape), stream.left_bits())
    if header.dictionary:
        words = np.array(header.dictionary, np.int64)
        if integers.size and not 0 <= int(integers.min()) <= int(integers.max()) < len(words):
            raise CorruptFileError(f"an index leaves a dictionary of {len(words)} values")
        integers = words[integers].astype(np.int32)
    return integers.reshape(header.shape)
