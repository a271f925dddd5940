"""The compact forms of a matrix that is mostly zero: 16-bit columns, and little beside them.

- *grouped*: a list of columns per row and level. What all entries of a list share is kept once: two bytes an
  entry, and no multiplication. Best for a few levels with long lists, such as a ternary matrix.
- *coded*: a list per row; the bits that a column does not need hold the number of the entry's level. Also two
  bytes an entry.
- *valued*: a list per row, and a float32 of each entry beside its column: six bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

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

SHORTEST_LIST = 40
"""Mean entries of a list: below it, a loop for each list costs more than the multiplications it saves."""

SHORTEST_OF_TWO = 12
"""The same for a ternary matrix, whose two lists a row are of like lengths."""

Form = Literal["grouped", "coded", "valued"]
FORMS: tuple[Form, ...] = get_args(Form)


@dataclass(frozen=True, eq=False)
class Block:
    """Columns ``first .. first + cols`` of a matrix.

    ``counts`` (rows, lists) says how long each list is, ``columns`` holds the lists one after the other,
    row by row. ``reals`` are the levels (grouped: one a list; coded: ``columns >> bits`` is their number) or,
    valued, each entry's own value. Only a grouped block has several lists a row.
    """

    first: int
    cols: int
    counts: Columns
    columns: Columns
    reals: FloatArray
    form: Form
    bits: int = 16

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.counts.nbytes + self.columns.nbytes + self.reals.nbytes

    def values(self) -> FloatArray:
        """The float32 value of each entry, in the order of ``columns``."""
        if self.form == "grouped":
            return np.repeat(np.tile(self.reals, len(self.counts)), self.counts.reshape(-1))
        return self.reals if self.form == "valued" else self.reals[self.columns >> self.bits]

    def places(self) -> Columns:
        """The column of each entry."""
        return self.columns & np.uint16((1 << self.bits) - 1)

    def check(self) -> None:
        """Raise ``InputError`` unless every index lies inside the matrix and all lengths agree."""
        lists = self.counts.shape[1] if self.counts.ndim == 2 else 0
        entries = int(self.counts.sum(dtype=np.int64))
        kinds = [array.dtype.name for array in (self.counts, self.columns, self.reals)]
        wanted = {"grouped": lists, "valued": entries, "coded": len(self.reals)}.get(self.form, -1)
        if kinds != ["uint16", "uint16", "float32"] or self.columns.ndim != 1 or self.reals.ndim != 1:
            raise InputError("a compact matrix holds uint16 counts and columns and float32 values")
        one = lists == 1 and (self.bits == 16 or self.form == "coded" and 1 <= self.bits < 16)
        many = self.form == "grouped" and lists >= 1 and self.bits == 16
        if not (one or many) or not 0 <= self.cols <= MOST_COLUMNS:
            raise InputError(f"a compact matrix cannot have {lists} lists a row and {self.cols} columns")
        if entries != len(self.columns) or len(self.reals) != wanted:
            raise InputError(f"the counts say {entries} entries, there are {len(self.columns)} columns")
        if entries and int(self.places().max()) >= self.cols:
            raise InputError(f"column {int(self.places().max())} lies outside {self.cols} columns")
        if self.form == "coded" and entries and int((self.columns >> self.bits).max()) >= len(self.reals):
            raise InputError(f"an entry's level is not among the {len(self.reals)} of the matrix")


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
    >>> q = np.array([[0, 1, 0, -1], [0, 0, 0, 1]], np.int32)
    >>> block = compact(IntTensor("w", q, UniformGrid(0.5))).blocks[0]
    >>> block.form, block.counts.tolist(), block.places().tolist(), block.values().tolist()
    ('coded', [[2], [1]], [1, 3, 3], [0.5, -0.5, 0.5])
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
    bits = max(1, int(codes.shape[1] - 1).bit_length())
    shortest = SHORTEST_OF_TWO if len(kept) <= 2 else SHORTEST_LIST
    if len(kept) and entries >= shortest * len(kept) * len(stored):
        return _grouped(codes, kept, reals, first)
    if len(kept) and len(kept) <= 2 ** (16 - bits):
        return _coded(codes, kept, reals, bits, first)
    return _valued(tensor.grid.dequantize(np.ascontiguousarray(stored)), first)


def _coded(codes: AnyArray, kept: AnyArray, levels: FloatArray, bits: int, first: int) -> Block:
    number = np.full(int(codes.max()) + 1, -1, dtype=np.int32)
    number[kept] = np.arange(len(kept))
    level = number[codes]
    there = level >= 0
    columns = (np.nonzero(there)[1] | (level[there] << bits)).astype(np.uint16)
    counts = there.sum(axis=1, dtype=np.uint16)[:, None]
    return Block(first, codes.shape[1], counts, columns, levels, "coded", bits)


def _valued(values: FloatArray, first: int) -> Block:
    kept = values != 0
    columns = np.nonzero(kept)[1].astype(np.uint16)
    counts = kept.sum(axis=1, dtype=np.uint16)[:, None]
    return Block(first, values.shape[1], counts, columns, np.ascontiguousarray(values[kept]), "valued")


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
    return Block(first, cols, counts.astype(np.uint16), columns, levels, "grouped")
