"""Encodes and decodes tensors: header, model, checksum of the integers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from laconic.errors import CorruptFileError, InputError, at, uncured
from laconic.pack.codecs.compiled import coder
from laconic.pack.codecs.integers import CHECKSUM_MASK, checksum, decode_integers, encode_integers
from laconic.pack.codecs.layouts import Trail
from laconic.pack.codecs.symbols import StreamReader, StreamWriter
from laconic.pack.file.chunks import decode_chunks, encode_chunks
from laconic.pack.threads import check_threads
from laconic.pack.wire.grids import Grids
from laconic.pack.wire.headers import (
    MAX_RANK,
    RAW_TYPES,
    Header,
    Item,
    KindHeader,
    header_bits,
    put_header,
    put_raw,
    put_shape,
)
from laconic.records import AnyArray, IntTensor, RawTensor, Tensor
from laconic.records.limits import DEFAULT
from laconic.records.tensors import extremes
from laconic.varint import Writer

if TYPE_CHECKING:
    from laconic.pack.kinds import Kinds


# --- encoding -------------------------------------------------------------------------------------


class TensorWriter:
    """Appends tensors to a head (bytes) and a stream (symbols).

    ``alone``: each tensor of integers is in chunks, so that it can be read without the stream; only one
    without entries or dimensions is in the stream.
    """

    def __init__(self, head: Writer, threads: int | None = None, *, alone: bool = False) -> None:
        check_threads(threads)
        self._head, self._threads, self._alone = head, threads, alone
        self._stream = StreamWriter(coder())
        self._trail = Trail()
        self._grids = Grids()
        self._kinds: Kinds | None = None
        self._sum = 0

    def add(self, tensor: Tensor) -> None:
        """Append one tensor; raises ``InputError`` for what the format cannot represent."""
        with at(f"packing tensor {tensor.name!r}"):
            self._add(tensor)

    def _add(self, tensor: Tensor) -> None:
        if type(tensor) is RawTensor:
            check_raw(tensor)
            put_raw(self._head, tensor.array)
        elif type(tensor) is IntTensor:
            self._add_integers(tensor)
        else:
            self._add_kind(tensor)

    def _add_integers(self, tensor: IntTensor) -> None:
        check_integers(tensor)
        from laconic.pack.file.choose import plan_alone, plan_tensor  # not needed by readers

        alone = self._alone and tensor.size > 0 and tensor.shape != ()
        plan, before = plan_alone(tensor) if alone else plan_tensor(tensor, self._trail), self._trail.rows
        if plan.chunk_rows:
            chunks = encode_chunks(plan, tensor.integers, plan.chunk_rows, self._threads)
            put_header(self._head, plan.header._replace(chunks=chunks), before, self._grids)
            self._trail = self._trail.after_chunks(tensor.shape)
            return
        put_header(self._head, plan.header, before, self._grids)
        self._sum = checksum(tensor.integers, plan.lowest, plan.highest, self._sum)
        encode_integers(self._stream, plan, self._trail)
        self._trail = self._trail.after(tensor.integers, tensor.grid.zero)

    def _add_kind(self, tensor: Tensor) -> None:
        from laconic.pack.kinds import Kinds, put_kind  # few files hold one

        self._kinds = self._kinds or Kinds()
        kind = self._kinds.of(type(tensor))
        _check_shape(tensor)
        put_kind(self._head, kind)
        put_shape(self._head, tensor.shape)
        kind.put(self._head, tensor)
        for part in kind.parts(tensor):
            self._add(part)

    def finish(self) -> bytes:
        """The stream's bytes."""
        return self._stream.finish(self._sum & CHECKSUM_MASK)


def _check_shape(tensor: Tensor) -> None:
    if len(tensor.shape) > MAX_RANK:
        raise InputError(
            f"it has {len(tensor.shape)} dimensions, the format holds {MAX_RANK}. Cure: reshape it to at "
            f"most {MAX_RANK}"
        )
    if tensor.size == 0 and math.prod(max(1, length) for length in tensor.shape) > DEFAULT.elements:
        raise InputError(
            f"it is empty and has the shape {tensor.shape}: readers refuse dimensions beside a 0 whose "
            f"product is above {DEFAULT.elements}. Cure: leave it out"
        )


def check_raw(tensor: RawTensor) -> None:
    """Refuse elements that the format cannot hold."""
    _check_shape(tensor)
    if tensor.array.dtype.name not in RAW_TYPES:
        raise InputError(f"type {tensor.dtype} cannot be stored. Cure: convert it to one of {RAW_TYPES}")


def check_integers(tensor: IntTensor) -> None:
    """Refuse integers that the format cannot hold, or that their grid has no value for."""
    _check_shape(tensor)
    if tensor.integers.dtype != np.int32:
        raise InputError(
            f"integers must be int32, got {tensor.integers.dtype}. Cure: integers.astype(np.int32)"
        )
    why = tensor.grid.unfit(tensor.shape)
    if why is not None:
        raise InputError(f"{why}. Cure: one step or codebook for each index of the axis")
    why = tensor.grid.problem(tensor.integers, *extremes(tensor.integers))
    if why is not None:
        raise InputError(f"{why}. Cure: integers that the grid has values for")


def coded_bits(tensor: IntTensor) -> float:
    """Size of one tensor's header and symbols, alone in a file, in bits (graph, name and checksums excluded).

    >>> from laconic.records import UniformGrid
    >>> coded_bits(IntTensor("w", np.zeros((500, 800), np.int32), UniformGrid(1.0)))
    80.0
    """
    from laconic.pack.file.choose import plan_tensor

    with at(f"measuring tensor {tensor.name!r}"):
        check_integers(tensor)
    plan = plan_tensor(tensor, Trail())
    return header_bits(plan.header, None) + plan.bits


# --- decoding -------------------------------------------------------------------------------------


class Decoded(NamedTuple):
    """A tensor, the bytes of its header, and what was left of the stream after it, in bits."""

    tensor: Tensor
    header_bytes: int
    bits_left: int
    header: Item


class TensorReader:
    """Decodes tensors one after the other, and computes the checksum of their integers."""

    def __init__(self, stream: StreamReader, threads: int | None = None) -> None:
        check_threads(threads)
        self._stream, self._threads = stream, threads
        self._trail = Trail()
        self.total = 0

    def take(self, name: str, item: Item) -> Tensor:
        """The tensor of a header."""
        return self._kind(name, item) if isinstance(item, KindHeader) else self._part(name, item)

    def _part(self, name: str, item: Header | AnyArray) -> IntTensor | RawTensor:
        return self._integers(name, item) if isinstance(item, Header) else RawTensor(name, item)

    def _integers(self, name: str, header: Header) -> IntTensor:
        if header.chunks is not None:  # each has a checksum of its own
            every = range(len(header.chunks.lengths))
            integers, lowest, highest = decode_chunks(header, header.chunks, every, self._threads)
        else:
            integers = decode_integers(self._stream, header, self._trail)
            lowest, highest = extremes(integers)
        why = header.grid.problem(integers, lowest, highest)
        if why is not None:
            raise CorruptFileError(why)
        if header.chunks is not None:
            self._trail = self._trail.after_chunks(header.shape)
        else:
            self.total = checksum(integers, lowest, highest, self.total)
            self._trail = self._trail.after(integers, header.grid.zero)
        return IntTensor(name, integers, header.grid)

    def _kind(self, name: str, header: KindHeader) -> Tensor:
        parts = tuple(self._part("", part) for part in header.parts)
        try:
            return header.kind.build_in(name, header.shape, header.fields, parts, self._threads)
        except InputError as error:
            told = uncured(error)
            raise CorruptFileError(f"a tensor of the kind {header.kind.name!r}: {told}") from error


def read_tensors(
    stream: StreamReader,
    headers: list[tuple[Item, int]],
    names: tuple[str, ...],
    threads: int | None = None,
) -> Iterator[Decoded]:
    """Decode all tensors in order, chunks in this many threads, and check the stream's end after the last."""
    tensors = TensorReader(stream, threads)
    for (item, header_bytes), name in zip(headers, names, strict=True):
        with at(f"tensor {name!r}"):
            tensor = tensors.take(name, item)
        yield Decoded(tensor, header_bytes, stream.left_bits(), item)
        del tensor  # its reader may have dropped it
    stream.finish(tensors.total & CHECKSUM_MASK)
