"""The adaptive model: which entries are not background, their signs, their magnitudes (FORMAT.md, "Codec 2").

A tensor is seen as a matrix. Rows and columns without any non-background entry are named first; the
cells that are left are visited along diagonals, so that all cells of one batch lie in different rows
and columns and every batch knows all that earlier ones said. A cell's chance is a product of odds: of
its row, its column, its pair (row with input channel, or row with pixel) and its neighbours in the
image. All arithmetic is on integers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from laconic.errors import CorruptFileError
from laconic.pack.layouts import Flags, Geometry
from laconic.pack.symbols import ONE, Coder, Counts
from laconic.records import IntArray

Index = npt.NDArray[np.int64]
Levels = npt.NDArray[np.int64]

MAX_BATCHES = 1024
LINE_STRENGTHS = (0, 8, 20, 64)
PAIR_STRENGTHS = (0, 4, 12, 40)
_UNKNOWN, _ZERO, _NEGATIVE, _POSITIVE = range(4)
_SIGN_CLASS: Index = np.array([0, 0, 1, 2])
_SIGN_OF: Levels = np.array([0, 0, -1, 1])


@dataclass(frozen=True)
class Settings:
    """What the file says about one adaptively coded tensor. Strengths are 0 (off) to 3."""

    density: int
    classes: int
    low_bits: int = 0
    background: int = 0
    row: int = 0
    column: int = 0
    pair: int = 0
    near: int = 0
    by_pixel: bool = False

    @property
    def base(self) -> int:
        """Chance of a non-background cell before anything is known: a 4-bit mantissa and a shift."""
        return max(1, min(ONE - 1, ((16 + (self.density & 15)) << (self.density >> 4)) >> 5))


def density_code(hits: int, cells: int) -> int:
    """The density whose base chance is nearest to ``hits / cells``."""
    target = hits * ONE / max(1, cells)
    codes = range(16 * 16)
    return min(codes, key=lambda d: (abs(Settings(density=d, classes=0).base - target), d))


def code_matrix(
    coder: Coder,
    shape: tuple[int, int],
    settings: Settings,
    geometry: Geometry,
    hint: Flags | None,
    known: Levels | None,
) -> Levels:
    """Code (or decode) a matrix of integers relative to the background: 0 is background.

    ``hint``, one flag per column, is what earlier tensors tell about columns (None: nothing).
    ``known``: the matrix when encoding or measuring. Returns the matrix, int64.
    """
    rows, columns = shape
    used_rows = _line_flags(coder, rows, None, 0, None if known is None else (known != 0).any(1))
    used_columns = _line_flags(
        coder, columns, hint, geometry.width, None if known is None else (known != 0).any(0)
    )
    row_at, column_at = np.flatnonzero(used_rows), np.flatnonzero(used_columns)
    if bool(row_at.size) != bool(column_at.size):
        raise CorruptFileError("rows without columns: no writer produces this")
    part = None if known is None else known[np.ix_(row_at, column_at)]
    signs = _code_signs(coder, row_at, column_at, settings, geometry, part)
    where = np.nonzero(signs)
    sizes = code_sizes(coder, len(where[0]), settings, None if part is None else np.abs(part[where]))
    out = np.zeros(shape, np.int64)
    out[row_at[where[0]], column_at[where[1]]] = signs[where] * sizes
    return out


# --- rows and columns ---------------------------------------------------------------------------


def _line_flags(coder: Coder, n: int, hint: Flags | None, width: int, known: Flags | None) -> Flags:
    """Which rows or columns hold anything: one flag at a time, in the context of the hint, of the flag
    before and of the flag one image row above; Krichevsky-Trofimov chances (2k + 1) / (2n + 2).
    """
    out = [0] * n
    hints = [0] * n if hint is None else (1 + hint.astype(np.int64)).tolist()
    hits, total = [0] * 12, [0] * 12
    chance = np.zeros(1, np.int64)
    truth = None if known is None else known.astype(np.int32)
    for k in range(n):
        above = out[k - width] if 0 < width <= k else 0
        before = out[k - 1] if k else 0
        context = 4 * hints[k] + 2 * above + before
        chance[0] = _kt(hits[context], total[context])
        flag = int(coder.flags(chance, None if truth is None else truth[k : k + 1])[0])
        out[k] = flag
        hits[context] += flag
        total[context] += 1
    return np.array(out, np.bool_)


def _kt(hits: int, total: int) -> int:
    return min(ONE - 1, max(1, (2 * hits + 1) * ONE // (2 * total + 2)))


def _clipped(chances: Counts) -> Counts:
    """Chances moved off 0 and 1."""
    return np.minimum(np.maximum(chances, 1), ONE - 1)


# --- zeros and signs ----------------------------------------------------------------------------


class _Odds:
    """Counts of hits by context, and what they say relative to the base chance."""

    def __init__(self, size: int, strength: int, base: int) -> None:
        self._hits: Counts = np.zeros(size, np.int64)
        self._total: Counts = np.zeros(size, np.int64)
        self._strength, self._base = strength, base

    def chance(self, at: Index) -> Counts:
        """(hits + strength * base) / (total + strength), in units of 1/ONE."""
        said = self._hits[at] * ONE + self._strength * self._base
        return _clipped(said // (self._total[at] + self._strength))

    def learn(self, at: Index, flags: IntArray) -> None:
        np.add.at(self._hits, at, flags)
        np.add.at(self._total, at, 1)


def _combine(base: int, said: list[Counts], n: int) -> Counts:
    """Odds of the base times each factor's odds relative to the base, renormalised after each."""
    yes: Counts = np.full(n, base, np.int64)
    for chance in said:
        up = yes * chance * (ONE - base)
        down = (ONE - yes) * (ONE - chance) * base
        yes = _clipped(up * ONE // (up + down))
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
    """The contexts of the cells of one active submatrix."""

    def __init__(self, row_at: Index, column_at: Index, settings: Settings, geometry: Geometry) -> None:
        rows, self.columns = len(row_at), len(column_at)
        base = settings.base
        self.state = np.zeros((rows, self.columns + 2), np.int8)
        self.state[:, self.columns + 1] = _ZERO
        self.left, self.above = geometry.neighbours(column_at)
        group = column_at % geometry.inner if settings.by_pixel else column_at // geometry.inner
        self.groups = int(group.max()) + 1
        self.group = group
        self.row = _Odds(rows, LINE_STRENGTHS[settings.row], base) if settings.row else None
        self.column = _Odds(self.columns, LINE_STRENGTHS[settings.column], base) if settings.column else None
        pairs = PAIR_STRENGTHS[settings.pair]
        self.pair = _Odds(rows * self.groups, pairs, base) if settings.pair else None
        self.near = _Odds(9, PAIR_STRENGTHS[settings.near], base) if settings.near else None

    def factors(self, i: Index, j: Index) -> list[tuple[_Odds, Index]]:
        """The factors in use, each with its contexts at cells (i, j)."""
        found: list[tuple[_Odds, Index]] = []
        if self.row:
            found.append((self.row, i))
        if self.column:
            found.append((self.column, j))
        if self.pair:
            found.append((self.pair, i * self.groups + self.group[j]))
        if self.near:
            left = np.minimum(self.state[i, self.left[j]], 2)
            found.append((self.near, 3 * left.astype(np.int64) + np.minimum(self.state[i, self.above[j]], 2)))
        return found

    def sign_context(self, i: Index, j: Index) -> Index:
        context: Index = 3 * _SIGN_CLASS[self.state[i, self.left[j]]]
        return context + _SIGN_CLASS[self.state[i, self.above[j]]]


def _code_signs(
    coder: Coder,
    row_at: Index,
    column_at: Index,
    settings: Settings,
    geometry: Geometry,
    known: Levels | None,
) -> Levels:
    """-1, 0 or 1 for every cell of the active submatrix."""
    rows, columns = len(row_at), len(column_at)
    if min(rows, columns) < 2:
        return _line_signs(coder, rows, columns, known)
    cells = _Cells(row_at, column_at, settings, geometry)
    hits, total = np.zeros(9, np.int64), np.zeros(9, np.int64)
    for i, j in _diagonals(rows, columns):
        truth = None if known is None else known[i, j]
        factors = cells.factors(i, j)
        chances = _combine(settings.base, [odds.chance(at) for odds, at in factors], len(i))
        flags = coder.flags(chances, None if truth is None else (truth != 0).astype(np.int32))
        for odds, at in factors:
            odds.learn(at, flags)
        hit = np.flatnonzero(flags)
        state = np.full(len(i), _ZERO, np.int8)
        if hit.size:
            at = cells.sign_context(i[hit], j[hit])
            chances = _clipped((2 * hits[at] + 1) * ONE // (2 * total[at] + 2))
            positive = coder.flags(chances, None if truth is None else (truth[hit] > 0).astype(np.int32))
            np.add.at(hits, at, positive)
            np.add.at(total, at, 1)
            state[hit] = _NEGATIVE + positive
        cells.state[i, j] = state
    signs: Levels = _SIGN_OF[cells.state[:, :columns]]
    return signs


def _line_signs(coder: Coder, rows: int, columns: int, known: Levels | None) -> Levels:
    """Signs of a single active row or column, none of whose cells is background."""
    n = rows * columns
    out = np.zeros(n, np.int64)
    truth = None if known is None else (known.ravel() > 0).astype(np.int32)
    hits = 0
    for start, stop in _chunks(n):
        chances = np.full(stop - start, _kt(hits, start), np.int64)
        out[start:stop] = coder.flags(chances, None if truth is None else truth[start:stop])
        hits += int(out[start:stop].sum())
    return (2 * out - 1).reshape(rows, columns)


# --- magnitudes ---------------------------------------------------------------------------------


def _chunks(n: int) -> Iterator[tuple[int, int]]:
    """0..n in pieces that grow by a sixteenth: each is coded with the counts of all before it."""
    start = 0
    while start < n:
        stop = min(n, start + max(1, start >> 4))
        yield start, stop
        start = stop


def code_sizes(coder: Coder, n: int, settings: Settings, known: Levels | None) -> Levels:
    """Magnitudes 1 + (class << low_bits) + low: adaptive classes, then plain low bits."""
    low = settings.low_bits
    out = np.zeros(n, np.int64)
    counts = np.ones(settings.classes, np.int64)
    truth = None if known is None else ((known - 1) >> low).astype(np.int32)
    for start, stop in _chunks(n):
        piece = coder.draws(counts, stop - start, None if truth is None else truth[start:stop])
        counts += 2 * np.bincount(piece, minlength=settings.classes)
        out[start:stop] = piece
    rest = None if known is None else ((known - 1) & ((1 << low) - 1)).astype(np.int32)
    return 1 + (out << low) + coder.bits(low, n, rest)
