"""Adaptive flags one by one, and the pieces in which longer runs adapt."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from laconic.pack.layouts import Flags
from laconic.pack.symbols import ONE, Coder, Counts, StreamReader


def code_lines(coder: Coder, n: int, hint: Flags | None, width: int, known: Flags | None) -> Flags:
    """Code which of ``n`` rows or columns hold anything.

    One flag at a time, in the context of the hint (absent, no, yes), of the flag one image row above
    (``width`` back; 0 for none) and of the flag before; each context has its own counts.
    """
    if isinstance(coder, StreamReader) and coder.code is not None:
        read = np.zeros(n, np.bool_)
        coder.lend(coder.code.lines, hint, width, read)
        return read
    out = [0] * n
    hints = [0] * n if hint is None else (1 + hint.astype(np.int64)).tolist()
    hits, total = [0] * 12, [0] * 12
    chance = np.zeros(1, np.int64)
    truth = None if known is None else known.astype(np.int32)
    for k in range(n):
        above = out[k - width] if 0 < width <= k else 0
        before = out[k - 1] if k else 0
        context = 4 * hints[k] + 2 * above + before
        chance[0] = kt_chance(hits[context], total[context])
        flag = int(coder.flags(chance, None if truth is None else truth[k : k + 1])[0])
        out[k] = flag
        hits[context] += flag
        total[context] += 1
    return np.array(out, np.bool_)


def kt_chance(hits: int, total: int) -> int:
    """The Krichevsky-Trofimov chance (2 hits + 1) / (2 total + 2) in units of 2^-15, kept off 0 and 1."""
    return min(ONE - 1, max(1, (2 * hits + 1) * ONE // (2 * total + 2)))


def clipped(chances: Counts) -> Counts:
    """Chances moved off 0 and 1."""
    return np.minimum(np.maximum(chances, 1), ONE - 1)


def chunks(n: int) -> Iterator[tuple[int, int]]:
    """0..n in pieces that grow by a sixteenth: each is coded with the counts of all before it."""
    start = 0
    while start < n:
        stop = min(n, start + max(1, start >> 4))
        yield start, stop
        start = stop
