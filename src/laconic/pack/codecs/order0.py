"""The static model: one table of integer counts for the whole tensor (FORMAT.md, "Codec 1").

Designed for tensors of millions of entries: every pass is vectorised, and the symbols are coded in one call.
A constant tensor is a table of one class and costs no bits.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from laconic.errors import CorruptFileError, LimitError
from laconic.pack.codecs.symbols import Coder, Counts
from laconic.records import IntArray

MAX_CLASSES = 4096
_FEW = 8
_SWEEP = 1 << 17


class Table(NamedTuple):
    """Symbol s: the values ``lowest + (s << low_bits)`` and up; its probability is counts[s] / sum."""

    lowest: int
    low_bits: int
    counts: tuple[int, ...]

    def bits_per_symbol(self) -> float:
        """The fewest bits that any symbol costs."""
        total, top = sum(self.counts), max(self.counts)
        return math.log2(total / top) + self.low_bits

    def array(self) -> Counts:
        """The counts as int64."""
        return np.array(self.counts, dtype=np.int64)


def classes_of(integers: IntArray, lowest: int, low_bits: int) -> IntArray:
    """``(integers - lowest) >> low_bits`` as a flat contiguous int32 array."""
    flat = integers.reshape(-1)
    if lowest == 0 and low_bits == 0:
        return np.ascontiguousarray(flat)
    if low_bits == 0:
        return np.subtract(flat, np.int32(lowest), dtype=np.int32)
    return ((flat.astype(np.int64) - lowest) >> low_bits).astype(np.int32)


def count(symbols: IntArray, classes: int) -> Counts:
    """How often each of 0..classes-1 occurs; a few classes are counted without widening the array."""
    if classes <= _FEW:
        seen = [int(np.count_nonzero(symbols == s)) for s in range(1, classes)]
        return np.array([symbols.size - sum(seen), *seen], dtype=np.int64)
    total = np.zeros(classes, np.int64)
    for start in range(0, symbols.size, _SWEEP):
        total += np.bincount(symbols[start : start + _SWEEP], minlength=classes)
    return total


def quantised(counts: Counts) -> tuple[int, ...]:
    """Counts scaled to a sum near 2^12 (2^16 for over 64 classes), at least 1 where anything was seen.

    >>> quantised(np.array([900_000, 99_999, 0, 1]))
    (3686, 410, 0, 1)
    """
    goal = 1 << (12 if len(counts) <= 64 else 16)
    total = int(counts.sum())
    if total <= goal:
        return tuple(int(c) for c in counts)
    return tuple(max(1, (int(c) * goal + total // 2) // total) if c else 0 for c in counts)


class Fit(NamedTuple):
    """A tensor's table, its symbols, how often each occurs, and the bits they take in the stream."""

    table: Table
    symbols: IntArray
    seen: Counts
    bits: float


def fit(integers: IntArray, lowest: int, highest: int) -> Fit:
    """The table for a tensor with these extremes, and what it costs."""
    low_bits = max(0, (highest - lowest).bit_length() - 12)
    symbols = classes_of(integers, lowest, low_bits)
    seen = count(symbols, ((highest - lowest) >> low_bits) + 1)
    table = Table(lowest, low_bits, quantised(seen) if len(seen) > 1 else (1,))
    counts = table.array()
    used = seen > 0
    each = math.log2(max(1, int(counts.sum()))) - np.log2(counts[used])
    bits = float((seen[used] * each).sum()) + low_bits * symbols.size
    return Fit(table, symbols, seen, bits)


def write(coder: Coder, table: Table, integers: IntArray, symbols: IntArray) -> None:
    """Encode or measure a tensor under its table."""
    coder.draws(table.array(), symbols.size, symbols)
    if table.low_bits:
        low = (integers.reshape(-1).astype(np.int64) - table.lowest) & ((1 << table.low_bits) - 1)
        coder.bits(table.low_bits, low.size, low.astype(np.int32))


def read(coder: Coder, table: Table, n: int, bits_left: int) -> IntArray:
    """Decode ``n`` integers. ``bits_left``: bits in the stream; more entries than it can hold are refused."""
    if n * table.bits_per_symbol() > bits_left + 64:
        raise LimitError(f"{n} entries of {table.bits_per_symbol():.3g} bits or more in {bits_left} bits")
    if len(table.counts) == 1 and table.low_bits == 0:
        return np.full(n, table.lowest, np.int32) if table.lowest else np.zeros(n, np.int32)
    counts, out = table.array(), np.empty(n, np.int32)
    for start in range(0, n, _SWEEP):  # pieces that stay in the cache
        part = out[start : start + _SWEEP]
        np.add(coder.draws(counts, len(part), None), np.int32(table.lowest), out=part)
    if table.low_bits:
        return _with_low_bits(coder, table, out)
    return out


def _with_low_bits(coder: Coder, table: Table, classes: IntArray) -> IntArray:
    """``classes`` (offset by the lowest value already) and the low bits, put together."""
    wide = (classes.astype(np.int64) - table.lowest) << table.low_bits
    wide += coder.bits(table.low_bits, len(classes), None)
    wide += table.lowest
    if len(classes) and int(wide.max()) >= 2**31:
        raise CorruptFileError("a coded integer does not fit 32 bits")
    return wide.astype(np.int32)
