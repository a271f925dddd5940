"""Zeros and signs of the active submatrix, along diagonals (FORMAT.md, "Codec 2").

All cells of a batch lie in different rows and columns (in tensors of up to MAX_BATCHES columns), so
each batch knows all that earlier ones said about its rows, its columns and its neighbours to the left.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from laconic.pack.compiled import Extension
from laconic.pack.layouts import Geometry, Index
from laconic.pack.lines import chunks, clipped, kt_chance
from laconic.pack.settings import LINE_STRENGTHS, PAIR_STRENGTHS, Settings
from laconic.pack.symbols import ONE, Coder, Counts, StreamReader
from laconic.records import IntArray

Levels = Counts

MAX_BATCHES = 1024
_FEW_CONTEXTS = 32
_UNKNOWN, _ZERO, _NEGATIVE, _POSITIVE = range(4)
_SIGN_CLASS: Index = np.array([0, 0, 1, 2])
_SIGN_OF: Levels = np.array([0, 0, -1, 1])


class _Odds:
    """Counts of hits by context, and what they say relative to the base chance.

    ``apart`` says that no two cells of a batch share a context.
    """

    def __init__(self, size: int, strength: int, base: int, apart: bool) -> None:
        self._apart = apart
        self._hits: Counts = np.zeros(size, np.int64)
        self._total: Counts = np.zeros(size, np.int64)
        self._strength, self._base = strength, base

    def chance(self, at: Index) -> Counts:
        """(hits + strength * base) / (total + strength), in units of 1/ONE."""
        said = self._hits[at] * ONE + self._strength * self._base
        return clipped(said // (self._total[at] + self._strength))

    def learn(self, at: Index, flags: IntArray) -> None:
        _take_in(self._hits, self._total, at, flags, self._apart)


def _take_in(hits: Counts, total: Counts, at: Index, flags: IntArray, apart: bool) -> None:
    """Add flags to their contexts' counts, by the quickest of three ways to the same sums."""
    if apart:
        hits[at] += flags
        total[at] += 1
    elif len(hits) <= _FEW_CONTEXTS:
        hits += np.bincount(at[flags != 0], minlength=len(hits))
        total += np.bincount(at, minlength=len(hits))
    else:
        np.add.at(hits, at, flags)
        np.add.at(total, at, 1)


def _combine(base: int, said: list[Counts], n: int) -> Counts:
    """Odds of the base times each factor's odds relative to the base, renormalised after each."""
    yes: Counts = np.full(n, base, np.int64)
    for chance in said:
        up = yes * chance * (ONE - base)
        down = (ONE - yes) * (ONE - chance) * base
        yes = clipped(up * ONE // (up + down))
    return yes


def _diagonals(rows: int, columns: int) -> Iterator[tuple[Index, Index]]:
    """All cells, in batches of whole diagonals; at most MAX_BATCHES batches."""
    short, long = min(rows, columns), max(rows, columns)
    batches = min(long, MAX_BATCHES)
    across = np.arange(short)
    for first in range(batches):
        shifts = np.arange(first, long, batches)
        along = ((across[None, :] + shifts[:, None]) % long).ravel()
        fixed = np.tile(across, len(shifts))
        yield (fixed, along) if rows <= columns else (along, fixed)


class _Cells:
    """What is known about each cell's surroundings, and the contexts that follow from it."""

    def __init__(self, row_at: Index, column_at: Index, settings: Settings, geometry: Geometry) -> None:
        rows, columns = len(row_at), len(column_at)
        self.state = np.zeros((rows, columns + 2), np.int8)
        self.state[:, columns + 1] = _ZERO  # the column that stands for all that are not kept
        self._left, self._above, *self._corners = _neighbours(column_at, geometry)
        apart = max(rows, columns) <= MAX_BATCHES  # a batch is one diagonal: all its rows and columns differ
        rank, none = np.arange(rows), np.zeros(columns, np.int64)
        group, pixel = column_at // geometry.inner, column_at % geometry.inner
        lines = (
            (LINE_STRENGTHS[settings.row], rank, none),
            (LINE_STRENGTHS[settings.column], 0 * rank, np.arange(columns)),
            (PAIR_STRENGTHS[settings.channel], rank * (int(group[-1]) + 1), group),
            (PAIR_STRENGTHS[settings.pixel], rank * geometry.inner, pixel),
        )
        self._lines = [
            (_Odds(int(row[-1] + column.max()) + 1, strength, settings.base, apart), row, column)
            for strength, row, column in lines
            if strength
        ]
        strength = PAIR_STRENGTHS[settings.near]
        self._near = _Odds(27, strength, settings.base, False) if strength else None

    def factors(self, i: Index, j: Index) -> list[tuple[_Odds, Index]]:
        """The factors in use, each with its contexts at cells (i, j)."""
        found = [(odds, row[i] + column[j]) for odds, row, column in self._lines]
        if self._near:
            context = 3 * self._seen(i, j, self._left) + self._seen(i, j, self._above)
            for corner in self._corners:
                context += 9 * (self.state[i, corner[j]] > _ZERO)
            found.append((self._near, context))
        return found

    def _seen(self, i: Index, j: Index, neighbour: Index) -> Index:
        """0 unknown, 1 background, 2 not background."""
        return np.minimum(self.state[i, neighbour[j]], 2).astype(np.int64)

    def sign_context(self, i: Index, j: Index) -> Index:
        """Signs to the left and above: 3 * left + above, each 0 for none, 1 negative, 2 positive."""
        left, above = self.state[i, self._left[j]], self.state[i, self._above[j]]
        context: Index = 3 * _SIGN_CLASS[left] + _SIGN_CLASS[above]
        return context


def code_signs(
    coder: Coder,
    row_at: Index,
    column_at: Index,
    settings: Settings,
    geometry: Geometry,
    known: Levels | None,
) -> Levels:
    """Code -1, 0 or 1 for every cell of the rows ``row_at`` and columns ``column_at``.

    A single row or column holds no background (else it would not be listed), so only signs are coded.
    """
    rows, columns = len(row_at), len(column_at)
    if min(rows, columns) < 2:
        return _line_signs(coder, rows, columns, known)
    if isinstance(coder, StreamReader) and coder.code is not None:
        return _read_signs(coder, coder.code, rows, column_at, settings, geometry)
    cells = _Cells(row_at, column_at, settings, geometry)
    signs = _Signs()
    for i, j in _diagonals(rows, columns):
        truth = None if known is None else known[i, j]
        factors = cells.factors(i, j)
        chances = _combine(settings.base, [odds.chance(at) for odds, at in factors], len(i))
        flags = coder.flags(chances, None if truth is None else (truth != 0).astype(np.int32))
        for odds, at in factors:
            odds.learn(at, flags)
        state = np.full(len(i), _ZERO, np.int8)
        hit = np.flatnonzero(flags)
        if hit.size:
            positive = signs.code(
                coder, cells.sign_context(i[hit], j[hit]), None if truth is None else truth[hit]
            )
            state[hit] = _NEGATIVE + positive
        cells.state[i, j] = state
    found: Levels = _SIGN_OF[cells.state[:, :columns]]
    return found


def _read_signs(
    coder: StreamReader,
    code: Extension,
    rows: int,
    column_at: Index,
    settings: Settings,
    geometry: Geometry,
) -> Levels:
    """The same by compiled code."""
    columns = len(column_at)
    tables = np.concatenate([column_at, *_neighbours(column_at, geometry)], dtype=np.int64)
    strengths = [LINE_STRENGTHS[k] for k in (settings.row, settings.column)]
    strengths += [PAIR_STRENGTHS[k] for k in (settings.channel, settings.pixel, settings.near)]
    state = np.zeros((rows, columns + 2), np.int8)
    sizes = (rows, columns, geometry.inner, settings.base)
    coder.lend(code.cells, *sizes, np.array(strengths, np.int64), tables, state)
    found: Levels = _SIGN_OF[state[:, :columns]]
    return found


def _neighbours(column_at: Index, geometry: Geometry) -> list[Index]:
    """Places of the pixels to the left, above, above left and above right."""
    return [geometry.neighbours(column_at, *step) for step in ((0, -1), (-1, 0), (-1, -1), (-1, 1))]


class _Signs:
    """Adaptive signs in nine contexts."""

    def __init__(self) -> None:
        self._hits, self._total = np.zeros(9, np.int64), np.zeros(9, np.int64)

    def code(self, coder: Coder, at: Index, known: Levels | None) -> IntArray:
        """1 for each positive entry."""
        chances = clipped((2 * self._hits[at] + 1) * ONE // (2 * self._total[at] + 2))
        positive = coder.flags(chances, None if known is None else (known > 0).astype(np.int32))
        _take_in(self._hits, self._total, at, positive, False)
        return positive


def _line_signs(coder: Coder, rows: int, columns: int, known: Levels | None) -> Levels:
    """Signs of a single active row or column, none of whose cells is background."""
    n = rows * columns
    if isinstance(coder, StreamReader) and coder.code is not None:
        read = np.zeros((rows, columns), np.uint8)
        coder.lend(coder.code.signs, read)
        return 2 * read.astype(np.int64) - 1
    out = np.zeros(n, np.int64)
    truth = None if known is None else (known.ravel() > 0).astype(np.int32)
    hits = 0
    for start, stop in chunks(n):
        chances = np.full(stop - start, kt_chance(hits, start), np.int64)
        out[start:stop] = coder.flags(chances, None if truth is None else truth[start:stop])
        hits += int(out[start:stop].sum())
    return (2 * out - 1).reshape(rows, columns)
