"""Adaptive flags coded one by one, and the pieces after which longer runs update their counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from laconic.pack.codecs.layouts import Flags, Index
from laconic.pack.codecs.symbols import ONE, Coder, Counts, StreamReader
from laconic.records import IntArray


def code_lines(coder: Coder, n: int, hint: Flags | None, width: int, known: Flags | None) -> Flags:
    """Code which of ``n`` rows or columns hold a non-background entry.

    One flag at a time, in the context of the hint (absent, no, yes), of the flag one image row above
    (``width`` back; 0 for none) and of the flag before; each context has its own counts.
    """
    if isinstance(coder, StreamReader) and coder.code is not None:
        read = np.zeros(n, np.bool_)
        coder.lend(coder.code.lines, hint, width, read)
        return read
    if known is not None:
        flags = known.astype(np.int32)
        coder.flags(
            kt_probabilities(*counts_before(_contexts(flags, hint, width), np.arange(n), flags)), flags
        )
        return known
    out = [0] * n
    hints = [0] * n if hint is None else (1 + hint.astype(np.int64)).tolist()
    hits, total = [0] * 12, [0] * 12
    probability = np.zeros(1, np.int64)
    for k in range(n):
        above = out[k - width] if 0 < width <= k else 0
        before = out[k - 1] if k else 0
        context = 4 * hints[k] + 2 * above + before
        probability[0] = kt_probability(hits[context], total[context])
        flag = int(coder.flags(probability, None)[0])
        out[k] = flag
        hits[context] += flag
        total[context] += 1
    return np.array(out, np.bool_)


def _contexts(flags: IntArray, hint: Flags | None, width: int) -> Index:
    """The contexts of known flags: hint, flag ``width`` back, flag before."""
    contexts = np.zeros(len(flags), np.int64)
    if hint is not None:
        contexts += 4 * (1 + hint.astype(np.int64))
    if 0 < width < len(flags):
        contexts[width:] += 2 * flags[:-width]
    contexts[1:] += flags[:-1]
    return contexts


def kt_probability(hits: int, total: int) -> int:
    """The Krichevsky-Trofimov estimate (2 hits + 1) / (2 total + 2) in units of 2^-15, never 0 or 1."""
    return min(ONE - 1, max(1, (2 * hits + 1) * ONE // (2 * total + 2)))


class Before(NamedTuple):
    """For each flag, how many of its context came in earlier batches, and how many of those were hits."""

    hits: Counts
    total: Counts


def counts_before(contexts: Index, batches: Index, flags: IntArray) -> Before:
    """Counts of each flag's context when its batch begins; flags are in the order of their batches.

    >>> counts_before(np.array([0, 0, 1, 0]), np.array([0, 1, 1, 2]), np.array([1, 0, 1, 1], np.int32))
    Before(hits=array([0, 1, 0, 1]), total=array([0, 1, 0, 2]))
    """
    if len(contexts) == 0:
        return Before(np.zeros(0, np.int64), np.zeros(0, np.int64))
    small = int(contexts.max()) < 2**16  # NumPy sorts 16 bits by radix
    order = np.argsort(contexts.astype(np.uint16) if small else contexts, kind="stable")
    context, batch = contexts[order], batches[order]
    place = np.arange(len(order))
    fresh = np.ones(len(order), np.bool_)
    fresh[1:] = context[1:] != context[:-1]
    first = np.maximum.accumulate(np.where(fresh, place, 0))
    fresh[1:] |= batch[1:] != batch[:-1]
    start = np.maximum.accumulate(np.where(fresh, place, 0))
    sums = np.concatenate([[0], np.cumsum(flags[order], dtype=np.int64)])
    before = Before(np.empty(len(order), np.int64), np.empty(len(order), np.int64))
    before.hits[order] = sums[start] - sums[first]
    before.total[order] = start - first
    return before


def kt_probabilities(hits: Counts, total: Counts) -> Counts:
    """The Krichevsky-Trofimov estimates (2 hits + 1) / (2 total + 2), in units of 1/ONE."""
    return clipped((2 * hits + 1) * ONE // (2 * total + 2))


def clipped(probabilities: Counts) -> Counts:
    """Probabilities clipped to exclude 0 and 1."""
    return np.minimum(np.maximum(probabilities, 1), ONE - 1)


def chunks(n: int) -> Iterator[tuple[int, int]]:
    """0..n in pieces that grow by a sixteenth: each is coded with the counts of all before it."""
    start = 0
    while start < n:
        stop = min(n, start + max(1, start >> 4))
        yield start, stop
        start = stop
