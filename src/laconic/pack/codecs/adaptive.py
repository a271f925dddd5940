"""The adaptive model (FORMAT.md, "Codec 2"): which entries are not background, their signs, their sizes.

A tensor is coded as a matrix. Flags for the rows and columns that hold a non-background entry come first
(``lines.py``), then the zeros and signs of the other cells (``cells.py``), then magnitudes (``sizes.py``).
All arithmetic is on integers, and every probability is computed from what was coded before.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from laconic.errors import CorruptFileError
from laconic.pack.codecs.cells import code_signs
from laconic.pack.codecs.layouts import Flags, Geometry, Index
from laconic.pack.codecs.lines import code_lines
from laconic.pack.codecs.settings import Settings
from laconic.pack.codecs.sizes import code_sizes, crowding
from laconic.pack.codecs.symbols import Coder, Counts

Levels = Counts


class Entries(NamedTuple):
    """The entries of a matrix that are not background, in C order: their indices and values."""

    rows: Index
    columns: Index
    values: Levels


def code_matrix(
    coder: Coder,
    shape: tuple[int, int],
    settings: Settings,
    geometry: Geometry,
    hint: Flags | None,
    known: Levels | None,
) -> Entries:
    """Code (or decode) a matrix of integers relative to the background: 0 is background.

    ``hint``: one flag per column, predicted from earlier tensors (None: no prediction).
    ``known``: the matrix when encoding or measuring.
    """
    row_at, column_at = code_kept(coder, shape, geometry, hint, known)
    part = None if known is None else known[np.ix_(row_at, column_at)]
    signs = code_signs(coder, row_at, column_at, settings, geometry, part)
    where = np.nonzero(signs)
    crowd = np.zeros(len(where[0]), np.int64)
    if settings.sizes_near:
        crowd = crowding(signs, where, column_at, geometry)
    sizes = code_sizes(coder, crowd, settings, None if part is None else np.abs(part[where]))
    return Entries(row_at[where[0]], column_at[where[1]], signs[where] * sizes)


def code_kept(
    coder: Coder, shape: tuple[int, int], geometry: Geometry, hint: Flags | None, known: Levels | None
) -> tuple[Index, Index]:
    """Code which rows and columns hold an entry that is not background; their indices."""
    rows, columns = shape
    used_rows = code_lines(coder, rows, None, 0, None if known is None else (known != 0).any(1))
    used_columns = code_lines(
        coder, columns, hint, geometry.width, None if known is None else (known != 0).any(0)
    )
    row_at, column_at = np.flatnonzero(used_rows), np.flatnonzero(used_columns)
    if bool(row_at.size) != bool(column_at.size):
        raise CorruptFileError("rows without columns: no writer produces this")
    return row_at, column_at
