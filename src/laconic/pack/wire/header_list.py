"""Reads a file's headers in order; what they claim in all is checked before anything is allocated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from laconic.errors import CorruptFileError, FileFormatError
from laconic.pack.codecs.layouts import matrix_shape
from laconic.pack.codecs.order0 import Table
from laconic.pack.codecs.settings import MAX_ENTRIES, MAX_LINES, MAX_MIXED, Mix, Settings
from laconic.pack.wire.chunks import CHUNKED
from laconic.pack.wire.grids import Grids
from laconic.pack.wire.headers import MIXED, OTHER, Header, Item, KindHeader, get_header, get_shape
from laconic.records import AnyArray
from laconic.records.limits import Limits
from laconic.varint import Reader

if TYPE_CHECKING:
    from laconic.pack.kinds import Kinds

ENTRIES_PER_BYTE = 2048


class _Claims:
    """Totals that the headers claim so far, checked against the limits after each header."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.elements = self.total = self.constants = self.lines = self.levels = 0

    def add(self, item: Item) -> None:
        """Add a header; raises ``LimitError`` beyond the limits."""
        limits = self._limits
        self.elements += item.size
        each = item.item_bytes if isinstance(item, KindHeader) else 4
        self.total += item.nbytes if isinstance(item, np.ndarray) else each * item.size
        limits.check("elements", self.elements, limits.elements)
        limits.check("decoded bytes", self.total, limits.decoded_bytes)
        if not isinstance(item, Header):
            return
        if isinstance(item.model, Table) and len(item.model.counts) == 1:
            self.constants += item.size
            limits.check("elements of constant tensors", self.constants, limits.constants)
        self.levels += len(item.dictionary) + len(item.grid.numbers)
        limits.check("levels of codebooks and values of dictionaries", self.levels, limits.levels)
        self.lines += _lines_of(item)
        limits.check("rows and columns of adaptive tensors", self.lines, limits.lines)


def _lines_of(header: Header) -> int:
    """Rows and columns that the adaptive codec visits; a shape outside the codec's limits is refused."""
    if not isinstance(header.model, Settings | Mix):
        return 0
    most = MAX_MIXED if isinstance(header.model, Mix) else MAX_ENTRIES
    shape, count = header.shape, 1
    if header.chunks is not None:  # each is a tensor of its own to the codec
        shape, count = header.chunks.shape(0, shape), len(header.chunks.lengths)
    rows, columns = matrix_shape(shape)
    if rows + columns > MAX_LINES or rows * columns > most:
        raise CorruptFileError(f"an adaptive tensor has shape {shape}, too large for that codec")
    if rows * columns == 0:
        raise CorruptFileError(f"an adaptive tensor has shape {shape}, so it has nothing to code")
    return count * (rows + columns)


class _HeaderReader:
    """Reads headers one after the other: each may refer to earlier ones."""

    def __init__(self, source: Reader, limits: Limits) -> None:
        self._source, self._limits = source, limits
        self._claims, self._grids = _Claims(limits), Grids()
        self._kinds: Kinds | None = None
        self._rows: int | None = None

    def next(self) -> Item:
        """The next tensor's header; that of another kind with its parts' headers."""
        head = self._source.peek()
        if head & 3 != OTHER or head in (CHUNKED, MIXED):
            return self._part()
        from laconic.pack.kinds import Kinds, get_kind  # few files hold one

        self._kinds = self._kinds or Kinds()
        kind = get_kind(self._source, self._kinds)
        shape = get_shape(self._source, self._limits, 4)
        fields = kind.get(self._source, shape)
        item = KindHeader(kind, shape, fields, tuple(self._part() for _ in kind.part_names))
        self._claims.add(item)
        return item

    def _part(self) -> Header | AnyArray:
        item = get_header(self._source, self._rows, self._limits, self._grids)
        self._claims.add(item)
        if isinstance(item, Header) and len(item.shape) > 1:
            self._rows = item.shape[0]
        return item


def read_headers(source: Reader, names: tuple[str, ...], limits: Limits) -> list[tuple[Item, int]]:
    """All tensor headers (raw tensors whole) with their sizes; totals are checked against the limits."""
    found: list[tuple[Item, int]] = []
    headers = _HeaderReader(source, limits)
    try:
        for _ in names:
            start = source.at
            item = headers.next()
            found.append((item, source.at - start))
    except FileFormatError as error:  # ``at`` for each tensor would take longer than reading it
        raise type(error)(f"tensor {names[len(found)]!r}: {error}") from error
    return found


def all_items(items: Iterable[Item]) -> Iterator[Item]:
    """Each header, followed by those of its parts."""
    for item in items:
        yield item
        if isinstance(item, KindHeader):
            yield from item.parts


def check_density(items: Iterable[Item], stream_bytes: int, limits: Limits) -> None:
    """Entries that take almost no bits count against the limit of constants, which are as cheap to claim."""
    coded = [item for item in all_items(items) if not isinstance(item, np.ndarray)]
    chunks = [item.chunks for item in coded if isinstance(item, Header) and item.chunks is not None]
    stream_bytes += sum(len(own.data) for own in chunks)
    stream_bytes += sum(item.coded_bytes for item in coded if isinstance(item, KindHeader))
    beyond = sum(item.size for item in coded) - ENTRIES_PER_BYTE * stream_bytes
    limits.check("elements that take almost no bits", beyond, limits.constants)
