"""The adaptive codec's order of cells and what their contexts are (FORMAT.md, "Codec 2").

``cells.py`` walks them batch by batch while it reads; ``known_cells.py`` takes them all at once.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from laconic.pack.layouts import Geometry, Index
from laconic.pack.lines import clipped
from laconic.pack.settings import LINE_STRENGTHS, PAIR_STRENGTHS, Settings
from laconic.pack.symbols import ONE, Counts

MAX_BATCHES = 1024
UNKNOWN, ZERO, NEGATIVE, POSITIVE = range(4)
NEAR_CONTEXTS = 27
SIGN_CONTEXTS = 9
_SIGN_CLASS: Index = np.array([0, 0, 1, 2])


def diagonals(rows: int, columns: int) -> Iterator[tuple[Index, Index]]:
    """All cells, in batches of whole diagonals; at most MAX_BATCHES batches."""
    short, long = min(rows, columns), max(rows, columns)
    batches = min(long, MAX_BATCHES)
    across = np.arange(short)
    for first in range(batches):
        shifts = np.arange(first, long, batches)
        along = ((across[None, :] + shifts[:, None]) % long).ravel()
        fixed = np.tile(across, len(shifts))
        yield (fixed, along) if rows <= columns else (along, fixed)


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
    """How strongly row, column, channel, pixel and neighbourhood hold to the base; 0 for a factor that is off."""
    lines = tuple(LINE_STRENGTHS[k] for k in (settings.row, settings.column))
    return lines + tuple(PAIR_STRENGTHS[k] for k in (settings.channel, settings.pixel, settings.near))


def neighbours(column_at: Index, geometry: Geometry) -> list[Index]:
    """Places of the pixels to the left, above, above left and above right."""
    return [geometry.neighbours(column_at, *step) for step in ((0, -1), (-1, 0), (-1, -1), (-1, 1))]


def near_context(left: Index, above: Index, *corners: Index) -> Index:
    """One of 27 from the states of four neighbours."""
    context: Index = 3 * np.minimum(left, 2).astype(np.int64) + np.minimum(above, 2)
    for corner in corners:
        context += 9 * (corner > ZERO)
    return context


def sign_context(left: Index, above: Index) -> Index:
    """Signs to the left and above: 3 * left + above, each 0 for none, 1 negative, 2 positive."""
    context: Index = 3 * _SIGN_CLASS[left] + _SIGN_CLASS[above]
    return context


def chances(hits: Counts, total: Counts, strength: int, base: int) -> Counts:
    """(hits + strength * base) / (total + strength), in units of 1/ONE."""
    return clipped((hits * ONE + strength * base) // (total + strength))


def kt_chances(hits: Counts, total: Counts) -> Counts:
    """The Krichevsky-Trofimov chances (2 hits + 1) / (2 total + 2), in units of 1/ONE."""
    return clipped((2 * hits + 1) * ONE // (2 * total + 2))


def combine(base: int, said: list[Counts], n: int) -> Counts:
    """Odds of the base times each factor's odds relative to the base, renormalised after each."""
    yes: Counts = np.full(n, base, np.int64)
    for chance in said:
        up = yes * chance * (ONE - base)
        down = (ONE - yes) * (ONE - chance) * base
        yes = clipped(up * ONE // (up + down))
    return yes
