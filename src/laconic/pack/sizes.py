"""Magnitudes of the entries that are not background (FORMAT.md, "Codec 2")."""

from __future__ import annotations

import numpy as np

from laconic.pack.layouts import Geometry, Index
from laconic.pack.lines import chunks
from laconic.pack.settings import Settings
from laconic.pack.symbols import Coder, Counts

Levels = Counts
_INHERITED = 4  # a context starts with a sixteenth of the counts of the one before


def code_sizes(coder: Coder, contexts: Index, settings: Settings, known: Levels | None) -> Levels:
    """Magnitudes 1 + (class << low_bits) + low: adaptive classes, each context apart, then plain low bits."""
    low, n = settings.low_bits, len(contexts)
    out = np.zeros(n, np.int64)
    counts = np.ones(settings.classes, np.int64)
    truth = None if known is None else ((known - 1) >> low).astype(np.int32)
    for context in range(int(contexts.max(initial=-1)) + 1):
        members = np.flatnonzero(contexts == context)
        counts = 1 + (counts >> _INHERITED)
        for start, stop in chunks(len(members)):
            at = members[start:stop]
            piece = coder.draws(counts, len(at), None if truth is None else truth[at])
            counts += 2 * np.bincount(piece, minlength=settings.classes)
            out[at] = piece
    rest = None if known is None else ((known - 1) & ((1 << low) - 1)).astype(np.int32)
    return 1 + (out << low) + coder.bits(low, n, rest)


def crowding(signs: Levels, column_at: Index, geometry: Geometry) -> Index:
    """For each non-background cell, in row order: how many of its four neighbours are non-background."""
    rows, columns = signs.shape
    hit = np.zeros((rows, columns + 2), np.int64)
    hit[:, :columns] = signs != 0
    around = np.zeros(signs.shape, np.int64)
    for step in ((0, -1), (-1, 0), (0, 1), (1, 0)):
        around += hit[:, geometry.neighbours(column_at, *step)]
    return around[np.nonzero(signs)]
