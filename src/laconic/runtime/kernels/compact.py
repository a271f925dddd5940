"""The compact form of a matrix that is mostly zero: lists of 16-bit column indices, a list per row and level.

What all entries of a list share is kept once, so an entry of a ternary matrix, or of one with a few levels,
takes two bytes. A matrix with many levels keeps a float32 of each entry beside its column: six bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from laconic.errors import InputError
from laconic.records import AnyArray, FloatArray, IntTensor, Tensor

Columns = npt.NDArray[np.uint16]

MOST_COLUMNS = 65535
"""A block's columns; with one more, a full row's count would not fit in 16 bits."""

WIDE_BLOCK = 32768
"""Columns of a block when the matrix needs several."""

MOST_CODES = 65536
"""Integers may spread over this many values before each entry keeps its own value."""

SHORTEST_LIST = 2
"""Mean entries of a list: below it, keeping a value for each entry is faster and hardly larger."""


@dataclass(frozen=True, eq=False)
class Block:
    """Columns ``first .. first + cols`` of a matrix.

    ``counts`` (rows, lists) says how long each list is, ``columns`` holds the lists one after the other,
    row by row. ``levels`` (lists,) are the lists' values when ``grouped``; otherwise there is one list a row
    and ``reals`` is as long as ``columns``.
    """

    first: int
    cols: int
    counts: Columns
    columns: Columns
    reals: FloatArray
    grouped: bool

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.counts.nbytes + self.columns.nbytes + self.reals.nbytes

    def values(self) -> FloatArray:
        """The float32 value of each entry, in the order of ``columns``."""
        if not self.grouped:
            return self.reals
        return np.repeat(np.tile(self.reals, len(self.counts)), self.counts.reshape(-1))

    def check(self) -> None:
        """Raise ``InputError`` unless every index lies inside the matrix and all lengths agree."""
        lists = self.counts.shape[1] if self.counts.ndim == 2 else 0
        entries = int(self.counts.sum(dtype=np.int64))
        kinds = [array.dtype.name for array in (self.counts, self.columns, self.reals)]
        wanted = lists if self.grouped else entries
        if kinds != ["uint16", "uint16", "float32"] or self.columns.ndim != 1 or self.reals.ndim != 1:
            raise InputError("a compact matrix holds uint16 counts and columns and float32 values")
        if lists < 1 or not (self.grouped or lists == 1) or not 0 <= self.cols <= MOST_COLUMNS:
            raise InputError(f"a compact matrix cannot have {lists} lists a row and {self.cols} columns")
        if entries != len(self.columns) or len(self.reals) != wanted:
            raise InputError(f"the counts say {entries} entries, there are {len(self.columns)} columns")
        if entries and int(self.columns.max()) >= self.cols:
            raise InputError(f"column {int(self.columns.max())} lies outside {self.cols} columns")


@dataclass(frozen=True, eq=False)
class Compact:
    """A whole matrix: its shape (rows, columns) and blocks of at most 65,535 columns, from left to right."""

    shape: tuple[int, int]
    blocks: tuple[Block, ...]

    @property
    def entries(self) -> int:
        """Entries that are not zero."""
        return sum(len(block.columns) for block in self.blocks)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(block.nbytes for block in self.blocks)


def compact(tensor: Tensor) -> Compact:
    """The compact form of a matrix of a file.

    Raises ``InputError`` when the tensor is not a matrix of real numbers.

    >>> from laconic.records import UniformGrid
    >>> q = np.array([[1, 1, 0, -1, -1], [-1, 0, 1, 1, -1]], np.int32)
    >>> block = compact(IntTensor("w", q, UniformGrid(0.5))).blocks[0]
    >>> block.counts.tolist(), block.columns.tolist(), block.reals.tolist()
    ([[2, 2], [2, 2]], [3, 4, 0, 1, 0, 4, 2, 3], [-0.5, 0.5])
    """
    stored = tensor.integers if isinstance(tensor, IntTensor) else tensor.array
    if stored.ndim != 2 or not (isinstance(tensor, IntTensor) or stored.dtype.kind == "f"):
        raise InputError(f"tensor {tensor.name!r} must be a matrix, got {stored.dtype} {stored.shape}")
    rows, cols = stored.shape
    width = cols if cols <= MOST_COLUMNS else WIDE_BLOCK
    firsts = range(0, cols, width) if cols else range(1)
    blocks = tuple(_block(tensor, stored[:, first : first + width], first) for first in firsts)
    return Compact((rows, cols), blocks)


def _block(tensor: Tensor, stored: AnyArray, first: int) -> Block:
    if not isinstance(tensor, IntTensor):
        return _valued(np.asarray(stored, dtype=np.float32), first)
    lowest = int(stored.min()) if stored.size else 0
    span = int(stored.max()) - lowest + 1 if stored.size else 1
    if span > MOST_CODES:
        return _valued(tensor.grid.dequantize(np.ascontiguousarray(stored)), first)
    codes = stored - np.int32(lowest)
    uses = np.bincount(codes.reshape(-1), minlength=1)
    there = np.flatnonzero(uses)
    levels = tensor.grid.dequantize((there + lowest).astype(np.int32))
    kept, reals = there[levels != 0], levels[levels != 0]
    entries = int(uses[kept].sum())
    if not len(kept) or entries < SHORTEST_LIST * len(kept) * len(stored):
        return _valued(tensor.grid.dequantize(np.ascontiguousarray(stored)), first)
    return _grouped(codes, kept, reals, first)


def _valued(values: FloatArray, first: int) -> Block:
    kept = values != 0
    columns = np.nonzero(kept)[1].astype(np.uint16)
    counts = kept.sum(axis=1, dtype=np.uint16)[:, None]
    return Block(first, values.shape[1], counts, columns, np.ascontiguousarray(values[kept]), grouped=False)


def _grouped(codes: AnyArray, kept: AnyArray, levels: FloatArray, first: int) -> Block:
    """Lists of each level are found by themselves, and put where the lists before them end."""
    rows, cols = codes.shape
    found = [np.nonzero(codes == code) for code in kept]
    counts = np.stack([np.bincount(row, minlength=rows) for row, _ in found], axis=1)
    ends = np.cumsum(counts.reshape(-1)).reshape(counts.shape)
    columns = np.empty(int(counts.sum()), dtype=np.uint16)
    for k, (_, column) in enumerate(found):
        before = np.cumsum(counts[:, k]) - counts[:, k]
        shift = ends[:, k] - counts[:, k] - before
        columns[np.repeat(shift, counts[:, k]) + np.arange(len(column))] = column
    return Block(first, cols, counts.astype(np.uint16), columns, levels, grouped=True)
