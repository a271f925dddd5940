"""The order of cells in the adaptive codec, and their contexts (FORMAT.md, "Codec 2").

``cells.py`` visits the cells batch by batch while decoding; ``known_cells.py`` handles all at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from laconic.pack.codecs.layouts import Geometry, Index
from laconic.pack.codecs.lines import clipped
from laconic.pack.codecs.settings import LINE_STRENGTHS, PAIR_STRENGTHS, Settings
from laconic.pack.codecs.symbols import ONE, Counts

MAX_BATCHES = 1024
UNKNOWN, ZERO, NEGATIVE, POSITIVE = range(4)
NEAR_CONTEXTS = 27
SIGN_CONTEXTS = 9
if TYPE_CHECKING:
    import numpy.typing as npt

    States = npt.NDArray[np.int8]
else:
    States = np.ndarray
_SIGN_CLASS: Index = np.array([0, 0, 1, 2])


def diagonals(rows: int, columns: int) -> tuple[Index, Index, Index]:
    """All cells in coding order: row, column, batch. A batch is whole diagonals; MAX_BATCHES at most."""
    short, long = min(rows, columns), max(rows, columns)
    across, shifts = np.arange(short), np.arange(long)
    batches = shifts % MAX_BATCHES
    order = np.argsort(batches, kind="stable")
    along = ((across[None, :] + shifts[order, None]) % long).ravel()
    fixed, batch = np.tile(across, long), np.repeat(batches[order], short)
    return (fixed, along, batch) if rows <= columns else (along, fixed, batch)


def line_contexts(rows: int, column_at: Index, geometry: Geometry) -> tuple[tuple[Index, Index], ...]:
    """Contexts of row, column, channel and pixel: the sum of a row's part and a column's part."""
    rank, none = np.arange(rows), np.zeros(len(column_at), np.int64)
    group, pixel = column_at // geometry.inner, column_at % geometry.inner
    return (
        (rank, none),
        (0 * rank, np.arange(len(column_at))),
        (rank * (int(group[-1]) + 1), group),
        (rank * geometry.inner, pixel),
    )


def strengths(settings: Settings) -> tuple[int, ...]:
    """Weight of the base in the factors row, column, channel, pixel and neighbourhood; 0: factor off."""
    lines = tuple(LINE_STRENGTHS[k] for k in (settings.row, settings.column))
    return lines + tuple(PAIR_STRENGTHS[k] for k in (settings.channel, settings.pixel, settings.near))


def neighbours(column_at: Index, geometry: Geometry) -> list[Index]:
    """Columns of the pixels to the left, above, above left and above right."""
    return [geometry.neighbours(column_at, *step) for step in ((0, -1), (-1, 0), (-1, -1), (-1, 1))]


def near_context(left: States, above: States, *corners: States) -> Index:
    """One of 27 from the states of four neighbours."""
    context: Index = 3 * np.minimum(left, 2).astype(np.int64) + np.minimum(above, 2)
    for corner in corners:
        context += 9 * (corner > ZERO)
    return context


def sign_context(left: States, above: States) -> Index:
    """Signs to the left and above: 3 * left + above, each 0 for none, 1 negative, 2 positive."""
    context: Index = 3 * _SIGN_CLASS[left] + _SIGN_CLASS[above]
    return context


def probabilities(hits: Counts, total: Counts, strength: int, base: int) -> Counts:
    """(hits + strength * base) / (total + strength), in units of 1/ONE."""
    return clipped((hits * ONE + strength * base) // (total + strength))


def combine(base: int, said: list[Counts], n: int) -> Counts:
    """Odds of the base times each factor's odds relative to the base, renormalised after each."""
    yes: Counts = np.full(n, base, np.int64)
    for probability in said:
        up = yes * probability * (ONE - base)
        down = (ONE - yes) * (ONE - probability) * base
        yes = clipped(up * ONE // (up + down))
    return yes
