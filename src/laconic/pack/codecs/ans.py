"""The symbol stream's coder in Python and NumPy, used without ``coder.c``: same interface and results.

An asymmetric numeral system (J. Duda, arXiv:1311.2540) with 32-bit words, a 64-bit state and 24-bit
probabilities; FORMAT.md, "Symbol stream", says every step. A symbol's slots depend on its model alone, so
NumPy finds them for many symbols at once. The state depends on all symbols before, so it is a Python integer
in a plain loop, which takes a fraction of a microsecond a symbol.

A read function takes the words, the number of words left and the state, and returns the new number and state.
A write function encodes from the last symbol to the first, fills ``room`` and returns the number of words
written and the state. A probability, count, width or symbol out of range raises a ValueError.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from laconic.records import IntArray

Taken = tuple[int, int]
Words = npt.NDArray[np.uint32]
Counts = npt.NDArray[np.int64]

ONE = 1 << 15
_SLOTS = 1 << 24
_LOW = 1 << 32
_MOST_CLASSES = 4096
_PART = 16
_SWEEP = 1 << 16


def table(counts: Counts) -> Counts:
    """The first slot of each class, from the counts; the last entry is 2^24.

    >>> table(np.array([1, 2, 1])).tolist()
    [0, 4194304, 12582911, 16777216]
    """
    if not 2 <= len(counts) <= _MOST_CLASSES:
        raise ValueError("wrong classes")
    total = sum(counts.tolist())  # Python's integers do not overflow
    if int(counts.min()) < 0 or not 0 < total <= 2**53:
        raise ValueError("wrong counts")
    scale = np.float64(_SLOTS - len(counts)) / np.float64(total)
    starts = np.full(len(counts) + 1, _SLOTS, np.int64)
    starts[0] = 0
    starts[1:-1] = (np.cumsum(counts[:-1]).astype(np.float64) * scale).astype(np.int64)
    starts[1:-1] += np.arange(1, len(counts))
    return starts


def _flag_starts(probabilities: Counts) -> Counts:
    """The first slot of symbol 1, for each flag."""
    if probabilities.size and not 0 < int(probabilities.min()) <= int(probabilities.max()) < ONE:
        raise ValueError("wrong probability")
    return (ONE - probabilities) * (_SLOTS - 2) // ONE + 1


def _parts(width: int) -> list[tuple[int, int]]:
    """A width split into parts of one symbol each: (shift, bits)."""
    if not 0 <= width <= 31:
        raise ValueError("wrong width")
    return [(shift, min(_PART, width - shift)) for shift in range(0, width, _PART)]


# --- reading --------------------------------------------------------------------------------------


def flags(words: Words, left: int, state: int, probabilities: Counts, out: IntArray) -> Taken:
    """One flag per probability, in units of 2^-15 (1..2^15-1)."""
    found = []
    for start in _flag_starts(probabilities).tolist():
        slot = state & (_SLOTS - 1)
        if slot >= start:
            found.append(1)
            state = (state >> 24) * (_SLOTS - start) + slot - start
        else:
            found.append(0)
            state = (state >> 24) * start + slot
        if state < _LOW and left:
            left -= 1
            state = state << 32 | int(words[left])
    out[:] = found
    return left, state


def draws(words: Words, left: int, state: int, counts: Counts, out: IntArray) -> Taken:
    """Classes, each with a probability proportional to its count."""
    slots = table(counts)
    starts, widths = slots.tolist(), np.diff(slots).tolist()
    for first in range(0, len(out), _SWEEP):
        found = []
        for _ in range(min(_SWEEP, len(out) - first)):
            slot = state & (_SLOTS - 1)
            drawn = bisect_right(starts, slot) - 1
            found.append(drawn)
            state = (state >> 24) * widths[drawn] + slot - starts[drawn]
            if state < _LOW and left:
                left -= 1
                state = state << 32 | int(words[left])
        out[first : first + _SWEEP] = found
    return left, state


def bits(words: Words, left: int, state: int, width: int, out: IntArray) -> Taken:
    """Integers of ``width`` equally likely bits: the low 16 of all, then the rest of all."""
    out[:] = 0
    for shift, part in _parts(width):
        drop, kept = 24 - part, (1 << 24 - part) - 1
        found = []
        for _ in range(len(out)):
            slot = state & (_SLOTS - 1)
            found.append(slot >> drop)
            state = state >> 24 << drop | slot & kept
            if state < _LOW and left:
                left -= 1
                state = state << 32 | int(words[left])
        out |= np.array(found, np.int32) << shift
    return left, state


# --- writing --------------------------------------------------------------------------------------


def put_flags(room: Words, state: int, probabilities: Counts, symbols: IntArray) -> Taken:
    """The inverse of :func:`flags`."""
    _check(symbols, 2)
    yes = _flag_starts(probabilities)
    starts = np.where(symbols == 1, yes, 0)
    return _put(room, 0, state, starts, np.where(symbols == 1, _SLOTS - yes, yes))


def put_draws(room: Words, state: int, counts: Counts, symbols: IntArray) -> Taken:
    """The inverse of :func:`draws`."""
    slots = table(counts)
    widths = np.diff(slots)
    _check(symbols, len(counts))
    used = 0
    for piece in _backwards(symbols):
        used, state = _put(room, used, state, slots[piece], widths[piece])
    return used, state


def put_bits(room: Words, state: int, width: int, symbols: IntArray) -> Taken:
    """The inverse of :func:`bits`."""
    parts = _parts(width)
    _check(symbols, 1 << width)
    used = 0
    for shift, part in reversed(parts):
        for piece in _backwards(symbols):
            starts = (piece >> shift & ((1 << part) - 1)) << 24 - part
            used, state = _put(room, used, state, starts, np.full(len(piece), _SLOTS >> part))
    return used, state


def _check(symbols: IntArray, end: int) -> None:
    if symbols.size and not 0 <= int(symbols.min()) <= int(symbols.max()) < end:
        raise ValueError("wrong symbol")


def _backwards(symbols: IntArray) -> Iterator[IntArray]:
    """Pieces of the symbols, the last piece first; pieces bound the memory of lists of Python's integers."""
    for end in range(len(symbols), 0, -_SWEEP):
        yield symbols[max(0, end - _SWEEP) : end]


def _put(room: Words, used: int, state: int, starts: Counts | IntArray, widths: Counts) -> Taken:
    """Encode symbols into the state, the last first; words are written to ``room[used:]``."""
    words = []
    for start, width in zip(starts[::-1].tolist(), widths[::-1].tolist(), strict=True):
        if state >> 40 >= width:
            words.append(state & (_LOW - 1))
            state >>= 32
        quotient, rest = divmod(state, width)
        state = (quotient << 24) + rest + start
    room[used : used + len(words)] = words
    return used + len(words), state
