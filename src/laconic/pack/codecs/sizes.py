"""Magnitudes of the entries that are not background (FORMAT.md, "Codec 2")."""

from __future__ import annotations

import numpy as np

from laconic.pack.codecs.compiled import Extension
from laconic.pack.codecs.layouts import Geometry, Index
from laconic.pack.codecs.lines import chunks, counts_before
from laconic.pack.codecs.settings import Settings
from laconic.pack.codecs.symbols import Coder, Counts, StreamReader
from laconic.records import IntArray

Levels = Counts
_INHERITED = 4  # a context starts with a sixteenth of the counts of the one before


def code_sizes(coder: Coder, contexts: Index, settings: Settings, known: Levels | None) -> Levels:
    """Magnitudes 1 + (class << low_bits) + low: adaptive classes, one context after another, low bits."""
    low, n = settings.low_bits, len(contexts)
    truth = None if known is None else ((known - 1) >> low).astype(np.int32)
    if isinstance(coder, StreamReader) and coder.code is not None and settings.classes > 1:
        out = _read_classes(coder, coder.code, contexts, settings.classes)
    else:
        out = _code_classes(coder, contexts, settings.classes, truth)
    rest = None if known is None else ((known - 1) & ((1 << low) - 1)).astype(np.int32)
    return 1 + (out << low) + coder.bits(low, n, rest)


def _code_classes(coder: Coder, contexts: Index, classes: int, truth: IntArray | None) -> Levels:
    out = np.zeros(len(contexts), np.int64)
    counts = np.ones(classes, np.int64)
    for context in range(int(contexts.max(initial=-1)) + 1):
        members = np.flatnonzero(contexts == context)
        counts = 1 + (counts >> _INHERITED)
        for start, stop in chunks(len(members)):
            at = members[start:stop]
            piece = coder.draws(counts, len(at), None if truth is None else truth[at])
            counts += 2 * np.bincount(piece, minlength=classes)
            out[at] = piece
    return out


def size_bits(contexts: Index, settings: Settings, known: Levels) -> float:
    """Bits that :func:`code_sizes` takes, all draws of a context at once.

    A class drawn from counts c costs log2(sum of c) - log2(its c); the counts are those at its chunk's start.
    """
    classes = (known - 1) >> settings.low_bits
    counts, total = np.ones(settings.classes, np.int64), float(settings.low_bits * len(known))
    if settings.classes < 2:
        return total
    for context in range(int(contexts.max(initial=-1)) + 1):
        drawn = classes[contexts == context]
        counts = 1 + (counts >> _INHERITED)
        pieces = list(chunks(len(drawn)))
        lengths = np.array([stop - start for start, stop in pieces], np.int64)
        starts = np.array([start for start, _ in pieces], np.int64)
        piece = np.repeat(np.arange(len(pieces)), lengths)
        before = counts[drawn] + 2 * counts_before(drawn, piece, np.zeros(len(drawn), np.int32)).total
        total += float(lengths @ np.log2(counts.sum() + 2 * starts)) - float(np.log2(before).sum())
        counts += 2 * np.bincount(drawn, minlength=settings.classes)
    return total


def _read_classes(coder: StreamReader, code: Extension, contexts: Index, classes: int) -> Levels:
    """Compiled code reads one context after another; the classes are then put in the order of the entries."""
    read = np.zeros(len(contexts), np.int32)
    coder.lend(code.sizes, classes, np.bincount(contexts), read)
    out = np.zeros(len(contexts), np.int64)
    out[np.argsort(contexts, kind="stable")] = read
    return out


def crowding(signs: Levels, where: tuple[Index, ...], column_at: Index, geometry: Geometry) -> Index:
    """For each non-background cell, in row order: how many of its four neighbours are non-background.

    ``where`` are the rows and columns of those cells.
    """
    (rows, columns), (i, j) = signs.shape, where
    hit = np.zeros((rows, columns + 2), np.bool_)
    hit[:, :columns] = signs != 0
    around = np.zeros(len(i), np.int64)
    for step in ((0, -1), (-1, 0), (0, 1), (1, 0)):
        around += hit[i, geometry.neighbours(column_at, *step)[j]]
    return around
