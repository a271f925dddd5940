"""The compact forms of a matrix that is mostly zero: 16-bit columns, and little beside them.

- *grouped*: a list of columns per row and level. What all entries of a list share is kept once: two bytes an
  entry, and no multiplication. Best for a few levels with long lists, such as a ternary matrix.
- *coded*: a list per row; the bits that a column does not need hold the number of the entry's level. Also two
  bytes an entry.
- *valued*: a list per row, and a float32 of each entry beside its column: six bytes.

Rows fall into panels of 512, and a panel's lists are ordered by level and length: a run of equal lists is a
loop whose end the processor foresees (``sparse.c`` says more).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np

from laconic.errors import InputError
from laconic.records import AnyArray, Coded, FloatArray, Tensor

if TYPE_CHECKING:
    import numpy.typing as npt

    Words = npt.NDArray[np.uint16]
    Places = npt.NDArray[np.int64]
else:
    Words = Places = np.ndarray

PANEL = 512
"""Rows of a panel (PANEL in sparse.c)."""

MOST_COLUMNS = 65535
"""A block's columns; with one more, the length of a full row's list would not fit in 16 bits."""

WIDE_BLOCK = 32768
"""Columns of a block when the matrix needs several."""

MOST_CODES = 65536
"""Integers may spread over this many values before each entry keeps its own value."""

MOST_LEVELS = 64
"""Levels of a grouped matrix."""

SHORTEST_LIST = 12
"""Mean entries of a list: below it, what each list costs is more than the multiplications it saves."""

Form = Literal["grouped", "coded", "valued"]
FORMS: tuple[Form, ...] = get_args(Form)

_CURE = "Cure: the blocks of compact(tensor)"


class Block(NamedTuple):
    """Columns ``first .. first + cols`` of a matrix of ``rows`` rows.

    ``panels`` says how many runs each panel has, ``runs`` (runs, 3) how many lists each run has, how long
    each is and which level they share; ``row`` is each list's row in its panel, ``columns`` holds the lists
    one after the other. ``reals`` are the levels (coded: ``columns >> bits`` is their number) or, valued,
    each entry's own value.
    """

    rows: int
    first: int
    cols: int
    panels: Words
    runs: Words
    row: Words
    columns: Words
    reals: FloatArray
    form: Form
    bits: int = 16

    @property
    def arrays(self) -> tuple[AnyArray, ...]:
        """The arrays in the order in which the compiled kernel takes them."""
        return (self.panels, self.runs, self.row, self.columns, self.reals)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(array.nbytes for array in self.arrays)

    def places(self) -> Words:
        """The column of each entry."""
        return self.columns & np.uint16((1 << self.bits) - 1)

    def entry_rows(self) -> Places:
        """The row of each entry."""
        lists, lengths = self.runs[:, 0].astype(np.int64), self.runs[:, 1].astype(np.int64)
        panel = np.repeat(np.repeat(np.arange(len(self.panels)), self.panels), lists)
        return np.repeat(panel * PANEL + self.row, np.repeat(lengths, lists))

    def values(self) -> FloatArray:
        """The float32 value of each entry, in the order of ``columns``."""
        if self.form == "valued":
            return self.reals
        if self.form == "coded":
            return np.asarray(self.reals[self.columns >> self.bits])
        return np.repeat(self.reals[self.runs[:, 2]], self.runs[:, 0].astype(np.int64) * self.runs[:, 1])

    def check(self) -> None:
        """Raise ``InputError`` unless every index lies inside the matrix and all lengths agree."""
        kinds = [array.dtype.name for array in self.arrays]
        if kinds != ["uint16"] * 4 + ["float32"] or [a.ndim for a in self.arrays] != [1, 2, 1, 1, 1]:
            raise InputError(f"a compact matrix holds uint16 lists and float32 values, got {kinds}. {_CURE}")
        bits_fit = 1 <= self.bits < 16 if self.form == "coded" else self.bits == 16
        if (
            self.form not in FORMS
            or not bits_fit
            or not 0 <= self.cols <= MOST_COLUMNS
            or self.runs.shape[1] != 3
        ):
            raise InputError(
                f"no compact matrix is {self.form!r} with {self.cols} columns of {self.bits} bits. {_CURE}"
            )
        lists, lengths = self.runs[:, 0].astype(np.int64), self.runs[:, 1].astype(np.int64)
        if len(self.panels) != -(-self.rows // PANEL) or int(self.panels.sum(dtype=np.int64)) != len(
            self.runs
        ):
            raise InputError(
                f"the panels of a compact matrix do not add up to its {len(self.runs)} runs. {_CURE}"
            )
        entries = int((lists * lengths).sum())
        if int(lists.sum()) != len(self.row) or entries != len(self.columns):
            raise InputError(
                f"the runs say {entries} entries, there are {len(self.columns)} columns. {_CURE}"
            )
        self._check_indices()

    def _check_indices(self) -> None:
        levels = self.runs[:, 2] if self.form == "grouped" else self.columns >> self.bits
        if self.form == "valued" and len(self.reals) != len(self.columns):
            raise InputError(f"{len(self.columns)} entries have {len(self.reals)} values. {_CURE}")
        if self.form != "valued" and levels.size and int(levels.max()) >= len(self.reals):
            raise InputError(
                f"an entry's level {int(levels.max())} is not among the {len(self.reals)} of the matrix. "
                f"{_CURE}"
            )
        if len(self.columns) and int(self.places().max()) >= self.cols:
            raise InputError(f"column {int(self.places().max())} lies outside {self.cols} columns. {_CURE}")
        panel = np.repeat(np.repeat(np.arange(len(self.panels)), self.panels), self.runs[:, 0])
        if len(self.row) and (
            int(self.row.max()) >= PANEL or int((panel * PANEL + self.row).max()) >= self.rows
        ):
            raise InputError(f"a list's row lies outside {self.rows} rows. {_CURE}")


class Compact(NamedTuple):
    """A whole matrix in compact form.

    Attributes:
        shape: (rows, columns).
        blocks: Blocks of at most 65,535 columns, from left to right.

    Example:
        >>> from laconic.records import IntTensor, UniformGrid
        >>> compact(IntTensor("w", np.array([[0, 1], [0, 0]], np.int32), UniformGrid(0.5))).entries
        1
    """

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

    Args:
        tensor: A stored tensor of shape (rows, columns), of any kind.

    Returns:
        Its blocks, each in the form that suits its levels.

    Raises:
        InputError: The tensor is not a matrix of real numbers.

    >>> from laconic.records import IntTensor, UniformGrid
    >>> q = np.array([[0, 1, 0, -1], [0, 0, 0, 1]], np.int32)
    >>> block = compact(IntTensor("w", q, UniformGrid(0.5))).blocks[0]
    >>> block.form, block.entry_rows().tolist(), block.places().tolist(), block.values().tolist()
    ('coded', [1, 0, 0], [3, 1, 3], [0.5, 0.5, -0.5])
    """
    if len(tensor.shape) != 2 or not tensor.dtype.startswith("float"):
        raise InputError(
            f"tensor {tensor.name!r} must be a matrix, got {tensor.dtype} {tensor.shape}. Cure: a tensor of "
            "floating-point numbers with two dimensions"
        )
    (rows, cols), coded = tensor.shape, tensor.coded()
    values = tensor.values() if coded is None else None
    width = cols if cols <= MOST_COLUMNS else WIDE_BLOCK
    firsts = range(0, cols, width) if cols else range(1)
    blocks = list[Block]()
    for first in firsts:
        columns = slice(first, first + width)
        if values is not None:
            blocks.append(_valued(np.asarray(values[:, columns], dtype=np.float32), first))
        elif coded is not None:
            blocks.append(_block(Coded(coded.integers[:, columns], coded.grid), first))
    return Compact((rows, cols), tuple(blocks))


class _Entries(NamedTuple):
    """The entries that may not be zero, row after row: where they are, and their integers less the lowest."""

    rows: Places
    columns: Places
    codes: AnyArray


def _entries(stored: AnyArray, zero: int | None, lowest: int) -> _Entries:
    """``zero`` is the integer that stands for nothing (None: there is none)."""
    rows, cols = stored.shape
    at = np.flatnonzero(stored != zero) if zero is not None else np.arange(stored.size)
    row = at // max(1, cols)
    column = at - row * cols
    return _Entries(row, column, stored[row, column] - np.int32(lowest))


def _block(coded: Coded, first: int) -> Block:
    stored, grid = coded
    lowest = int(stored.min()) if stored.size else 0
    span = int(stored.max()) - lowest + 1 if stored.size else 1
    if span > MOST_CODES:
        return _valued(grid.dequantize(np.ascontiguousarray(stored)), first)
    found = _entries(stored, grid.zero, lowest)
    uses = np.bincount(found.codes, minlength=1)
    kept = np.flatnonzero(uses)
    levels = grid.dequantize((kept + lowest).astype(np.int32))
    rows, cols = stored.shape
    bits = max(1, int(cols - 1).bit_length())
    many = len(found.codes) >= SHORTEST_LIST * len(kept) * rows
    if len(kept) and len(kept) <= MOST_LEVELS and many:
        return _grouped(found, kept, levels, (rows, cols), first)
    if len(kept) and len(kept) <= 2 ** (16 - bits) and bits < 16:
        return _coded(found, kept, levels, bits, (rows, cols), first)
    return _valued(grid.dequantize(np.ascontiguousarray(stored)), first)


def _grouped(
    found: _Entries, kept: AnyArray, levels: FloatArray, shape: tuple[int, int], first: int
) -> Block:
    rows, cols = shape
    number = _numbers(found.codes, kept)
    by_level = np.argsort(number, kind="stable")
    lengths = np.bincount(number * rows + found.rows, minlength=len(kept) * rows)
    row, level = np.tile(np.arange(rows), len(kept)), np.repeat(np.arange(len(kept)), rows)
    panels, runs, row16, take = _arrange(row, level, lengths)
    columns = found.columns[by_level].astype(np.uint16)[take]
    return Block(rows, first, cols, panels, runs, row16, columns, levels, "grouped")


def _coded(
    found: _Entries, kept: AnyArray, levels: FloatArray, bits: int, shape: tuple[int, int], first: int
) -> Block:
    rows, cols = shape
    columns = (found.columns | (_numbers(found.codes, kept) << bits)).astype(np.uint16)
    panels, runs, row, take = _arrange_rows(np.bincount(found.rows, minlength=rows))
    return Block(rows, first, cols, panels, runs, row, columns[take], levels, "coded", bits)


def _numbers(codes: AnyArray, kept: AnyArray) -> Places:
    """Each entry's place among the codes that occur."""
    number = np.zeros(int(kept[-1]) + 1, np.int64)
    number[kept] = np.arange(len(kept))
    return np.asarray(number[codes])


def _valued(values: FloatArray, first: int) -> Block:
    there = values != 0
    columns = np.nonzero(there)[1].astype(np.uint16)
    panels, runs, row, take = _arrange_rows(there.sum(axis=1))
    reals = values[there][take]
    return Block(len(there), first, there.shape[1], panels, runs, row, columns[take], reals, "valued")


def _arrange_rows(lengths: AnyArray) -> tuple[Words, Words, Words, Places]:
    """One list a row."""
    rows = np.arange(len(lengths))
    return _arrange(rows, np.zeros_like(rows), lengths)


def _arrange(row: AnyArray, level: AnyArray, length: AnyArray) -> tuple[Words, Words, Words, Places]:
    """Order lists by panel, level and length: panels, runs, rows in the panels, and which entry comes where.

    ``row``, ``level`` and ``length`` describe the lists as they come, their entries one after the other.
    Empty lists go.
    """
    start = np.cumsum(length) - length
    n_panels = -(-(int(row.max(initial=-1)) + 1) // PANEL)
    order = np.lexsort((row, length, level, row // PANEL))
    order = order[length[order] > 0]
    key = np.stack([row[order] // PANEL, level[order], length[order]], axis=1)
    heads = np.flatnonzero(np.any(np.diff(key, axis=0, prepend=-1) != 0, axis=1))
    lists = np.diff(heads, append=len(order))
    runs = np.stack([lists, key[heads, 2], key[heads, 1]], axis=1).astype(np.uint16)
    panels = np.bincount(key[heads, 0], minlength=n_panels).astype(np.uint16)
    lengths = length[order]
    take = np.repeat(start[order] - (np.cumsum(lengths) - lengths), lengths) + np.arange(int(lengths.sum()))
    return panels, runs, (row[order] % PANEL).astype(np.uint16), take
