"""What a file's headers claim in all, checked against the limits before anything is allocated."""

from __future__ import annotations

import numpy as np

from laconic.errors import CorruptFileError
from laconic.pack.codecs.layouts import matrix_shape
from laconic.pack.codecs.order0 import Table
from laconic.pack.codecs.settings import MAX_ENTRIES, MAX_LINES, Settings
from laconic.pack.wire.headers import Header, Item
from laconic.pack.wire.limits import Limits


class Claims:
    """Totals that the headers claim so far, checked against the limits after each header."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.elements = self.total = self.constants = self.lines = self.levels = 0

    def add(self, item: Item) -> None:
        """Add a header; raises ``LimitError`` beyond the limits."""
        limits = self._limits
        self.elements += item.size
        self.total += item.nbytes if isinstance(item, np.ndarray) else 4 * item.size
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
    if not isinstance(header.model, Settings):
        return 0
    shape, count = header.shape, 1
    if header.chunks is not None:  # each is a tensor of its own to the codec
        shape, count = header.chunks.shape(0, shape), len(header.chunks.lengths)
    rows, columns = matrix_shape(shape)
    if rows + columns > MAX_LINES or rows * columns > MAX_ENTRIES:
        raise CorruptFileError(f"an adaptive tensor has shape {shape}, too large for that codec")
    if rows * columns == 0:
        raise CorruptFileError(f"an adaptive tensor has shape {shape}, so it has nothing to code")
    return count * (rows + columns)
