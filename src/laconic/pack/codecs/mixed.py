"""The mixing model (FORMAT.md, "Codec 3"): binary decisions, each with a mix of what several contexts say.

Flags for the rows and columns that hold a non-background entry come first, as in the adaptive model; then
every cell of these rows and columns: zero or not, sign, magnitude. The model of the cells is in ``mixed.c``
and, where that was not compiled, in ``mixed_model.py``.
"""

from __future__ import annotations

import numpy as np

from laconic.pack.codecs.adaptive import Entries, code_kept
from laconic.pack.codecs.compiled import mixing
from laconic.pack.codecs.contexts import neighbours
from laconic.pack.codecs.layouts import Flags, Geometry, Index
from laconic.pack.codecs.settings import Mix
from laconic.pack.codecs.symbols import Coder, Counts, StreamReader
from laconic.records import IntArray

Levels = Counts
MOST_EXPONENT = 20
"""Magnitudes are below 2^21."""


def code_mixed(
    coder: Coder,
    shape: tuple[int, int],
    mix: Mix,
    geometry: Geometry,
    hint: Flags | None,
    known: Levels | None,
) -> Entries:
    """Code (or decode) a matrix of integers relative to the background; arguments as of ``code_matrix``."""
    row_at, column_at = code_kept(coder, shape, geometry, hint, known)
    if not row_at.size:
        none = np.zeros(0, np.int64)
        return Entries(none, none, none)
    tables = np.concatenate([column_at, *around(column_at, geometry)], dtype=np.int64)
    sizes = (len(row_at), len(column_at), geometry.inner, mix.by_columns)
    if known is not None:
        part = np.ascontiguousarray(known[np.ix_(row_at, column_at)], dtype=np.int32)
        coder.flags(*_flags(part, sizes, tables))
    else:
        part = _read(coder, sizes, tables)
    i, j = np.nonzero(part)
    return Entries(row_at[i], column_at[j], part[i, j].astype(np.int64))


def around(column_at: Index, geometry: Geometry) -> list[Index]:
    """Columns to the left, above, above left and above right; without an image, the three columns before."""
    if geometry.width:
        return neighbours(column_at, geometry)
    kept = len(column_at)
    place = np.arange(kept)
    return [*(np.where(place >= back, place - back, kept) for back in (1, 2, 3)), np.full(kept, kept)]


def flags_of(part: IntArray) -> int:
    """The number of flags that code these integers."""
    size = np.abs(part[part != 0].astype(np.int64))
    exponent = np.frexp(size.astype(np.float64))[1] - 1
    return int(part.size + size.size + (2 * exponent + (exponent < MOST_EXPONENT)).sum())


def _flags(part: IntArray, sizes: tuple[int, int, int, bool], tables: Index) -> tuple[Counts, IntArray]:
    """The flags of all cells and their probabilities, in coding order."""
    code = mixing()
    if code is None:
        from laconic.pack.codecs.mixed_model import write_cells  # where nothing was compiled

        return write_cells(part, sizes, tables)
    n = flags_of(part)
    probabilities, flags = np.empty(n, np.int64), np.empty(n, np.int32)
    code.put_cells(part, *sizes, tables, probabilities, flags)
    return probabilities, flags


def _read(coder: Coder, sizes: tuple[int, int, int, bool], tables: Index) -> IntArray:
    rows, columns = sizes[:2]
    code = mixing()
    if code is not None and isinstance(coder, StreamReader) and coder.code is not None:
        out = np.zeros((rows, columns + 2), np.int32)
        coder.lend(code.cells, *sizes, tables, out)
        return out[:, :columns]
    from laconic.pack.codecs.mixed_model import read_cells  # where nothing was compiled

    return read_cells(coder, sizes, tables)
