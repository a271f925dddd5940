"""Zeros and signs of the active submatrix, along diagonals (FORMAT.md, "Codec 2").

All cells of a batch lie in different rows and columns (in tensors of up to MAX_BATCHES columns), so
the probabilities of a batch follow from all earlier batches: counts of its rows and columns, and the cells to
the left. Decoding goes batch by batch; a known matrix is encoded all at once (``known_cells.py``).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from laconic.pack.codecs.compiled import Extension
from laconic.pack.codecs.contexts import (
    MAX_BATCHES,
    NEAR_CONTEXTS,
    NEGATIVE,
    SIGN_CONTEXTS,
    ZERO,
    combine,
    diagonals,
    line_contexts,
    near_context,
    neighbours,
    probabilities,
    sign_context,
    strengths,
)
from laconic.pack.codecs.layouts import Geometry, Index
from laconic.pack.codecs.lines import chunks, kt_probabilities, kt_probability
from laconic.pack.codecs.settings import Settings
from laconic.pack.codecs.symbols import Coder, Counts, StreamReader
from laconic.records import IntArray

Levels = Counts

_FEW_CONTEXTS = 32
_NEAR = 4
_SIGN_OF: Levels = np.array([0, 0, -1, 1])


class _Odds:
    """Counts of hits per context, and the probabilities that follow from them and the base probability.

    ``apart``: no two cells of a batch share a context.
    """

    def __init__(self, size: int, strength: int, base: int, apart: bool) -> None:
        self._apart = apart
        self._hits: Counts = np.zeros(size, np.int64)
        self._total: Counts = np.zeros(size, np.int64)
        self._strength, self._base = strength, base

    def probability(self, at: Index) -> Counts:
        """(hits + strength * base) / (total + strength), in units of 1/ONE."""
        return probabilities(self._hits[at], self._total[at], self._strength, self._base)

    def learn(self, at: Index, flags: IntArray) -> None:
        _take_in(self._hits, self._total, at, flags, self._apart)


def _take_in(hits: Counts, total: Counts, at: Index, flags: IntArray, apart: bool) -> None:
    """Add flags to the counts of their contexts, by the fastest of three equivalent operations."""
    if apart:
        hits[at] += flags
        total[at] += 1
    elif len(hits) <= _FEW_CONTEXTS:
        hits += np.bincount(at[flags != 0], minlength=len(hits))
        total += np.bincount(at, minlength=len(hits))
    else:
        np.add.at(hits, at, flags)
        np.add.at(total, at, 1)


class _Cells:
    """States of the cells coded so far, and the contexts that follow from them."""

    def __init__(self, rows: int, column_at: Index, settings: Settings, geometry: Geometry) -> None:
        columns = len(column_at)
        self.state = np.zeros((rows, columns + 2), np.int8)
        self.state[:, columns + 1] = ZERO  # one column for all that are not kept
        self._around = neighbours(column_at, geometry)
        apart = max(rows, columns) <= MAX_BATCHES  # a batch is one diagonal: all its rows and columns differ
        strong = strengths(settings)
        self._lines = [
            (_Odds(int(row[-1] + column.max()) + 1, strength, settings.base, apart), row, column)
            for strength, (row, column) in zip(strong, line_contexts(rows, column_at, geometry), strict=False)
            if strength
        ]
        self._near = _Odds(NEAR_CONTEXTS, strong[_NEAR], settings.base, False) if strong[_NEAR] else None

    def factors(self, i: Index, j: Index) -> list[tuple[_Odds, Index]]:
        """The factors in use, each with its contexts at cells (i, j)."""
        found = [(odds, row[i] + column[j]) for odds, row, column in self._lines]
        if self._near:
            found.append((self._near, near_context(*(self.state[i, place[j]] for place in self._around))))
        return found

    def sign_context(self, i: Index, j: Index) -> Index:
        """The context of the signs of cells (i, j)."""
        left, above = self._around[:2]
        return sign_context(self.state[i, left[j]], self.state[i, above[j]])


def code_signs(
    coder: Coder,
    row_at: Index,
    column_at: Index,
    settings: Settings,
    geometry: Geometry,
    known: Levels | None,
) -> Levels:
    """Code -1, 0 or 1 for every cell of the rows ``row_at`` and columns ``column_at``.

    A single row or column holds no background (else its line would not be kept), so only signs are coded.
    """
    rows, columns = len(row_at), len(column_at)
    if min(rows, columns) < 2:
        return _line_signs(coder, rows, columns, known)
    if isinstance(coder, StreamReader) and coder.code is not None:
        return _read_signs(coder, coder.code, rows, column_at, settings, geometry)
    if known is not None:
        from laconic.pack.codecs.known_cells import KnownCells  # not needed by readers

        KnownCells(column_at, known).code(coder, settings, geometry)
        return np.sign(known)
    cells = _Cells(rows, column_at, settings, geometry)
    signs = _Signs()
    order = diagonals(rows, columns)
    for start, stop in _batches(order[2]):
        i, j = order[0][start:stop], order[1][start:stop]
        factors = cells.factors(i, j)
        flags = coder.flags(
            combine(settings.base, [odds.probability(at) for odds, at in factors], len(i)), None
        )
        for odds, at in factors:
            odds.learn(at, flags)
        state = np.full(len(i), ZERO, np.int8)
        hit = np.flatnonzero(flags)
        if hit.size:
            state[hit] = NEGATIVE + signs.read(coder, cells.sign_context(i[hit], j[hit]))
        cells.state[i, j] = state
    found: Levels = _SIGN_OF[cells.state[:, :columns]]
    return found


def _batches(batch: Index) -> Iterator[tuple[int, int]]:
    """Start and end of each batch; ``batch`` is in ascending order."""
    edges = np.searchsorted(batch, np.arange(int(batch[-1]) + 2)).tolist()
    return zip(edges, edges[1:], strict=False)


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
    tables = np.concatenate([column_at, *neighbours(column_at, geometry)], dtype=np.int64)
    state = np.zeros((rows, columns + 2), np.int8)
    sizes = (rows, columns, geometry.inner, settings.base)
    coder.lend(code.cells, *sizes, np.array(strengths(settings), np.int64), tables, state)
    found: Levels = _SIGN_OF[state[:, :columns]]
    return found


class _Signs:
    """Adaptive signs in nine contexts."""

    def __init__(self) -> None:
        self._hits, self._total = np.zeros(SIGN_CONTEXTS, np.int64), np.zeros(SIGN_CONTEXTS, np.int64)

    def read(self, coder: Coder, at: Index) -> IntArray:
        """1 for each positive entry."""
        positive = coder.flags(kt_probabilities(self._hits[at], self._total[at]), None)
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
        probabilities = np.full(stop - start, kt_probability(hits, start), np.int64)
        out[start:stop] = coder.flags(probabilities, None if truth is None else truth[start:stop])
        hits += int(out[start:stop].sum())
    return (2 * out - 1).reshape(rows, columns)
