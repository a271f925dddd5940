"""The symbol stream of FORMAT.md decoded in plain Python: an oracle for the coder.

Written from the specification, without constriction. A draw's table takes one IEEE double division and
one multiplication per entry, as the format says; everything else is Python integers.
"""

from __future__ import annotations

from collections.abc import Sequence

TOTAL = 1 << 24


def table_of_counts(counts: Sequence[int]) -> list[int]:
    """Cumulative 24-bit table of a draw: entry s is where symbol s starts, the last entry is 2^24."""
    free, total = float(TOTAL - len(counts)), float(sum(counts))
    scale, before, starts = free / total, 0.0, []
    for symbol, count in enumerate(counts):
        starts.append(int(before * scale) + symbol)
        before += count
    return [*starts, TOTAL]


def table_of_probability(probability: int) -> list[int]:
    """Cumulative table of a flag whose probability of 1 is ``probability`` / 2^15."""
    return [0, (32768 - probability) * (TOTAL - 2) // 32768 + 1, TOTAL]


def table_of_bits(width: int) -> list[int]:
    """Cumulative table of ``width`` (at most 16) equally likely bits."""
    return [symbol * (TOTAL >> width) for symbol in range(1 << width)] + [TOTAL]


class IntegerAns:
    """A 64-bit state over 32-bit words, taken from the end of the stream."""

    def __init__(self, data: bytes) -> None:
        padded = data + b"\0" * (-len(data) % 4)
        self._words = [int.from_bytes(padded[k : k + 4], "little") for k in range(0, len(padded), 4)]
        self.state = 0
        while self.state < 1 << 32 and self._words:
            self.state = self.state << 32 | self._words.pop()

    def take(self, table: Sequence[int]) -> int:
        """The next symbol under a cumulative table."""
        slot = self.state & (TOTAL - 1)
        symbol = max(s for s in range(len(table) - 1) if table[s] <= slot)
        self.state = (self.state >> 24) * (table[symbol + 1] - table[symbol]) + slot - table[symbol]
        if self.state < 1 << 32 and self._words:
            self.state = self.state << 32 | self._words.pop()
        return symbol

    @property
    def finished(self) -> bool:
        """Whether only the first word is left."""
        return not self._words and self.state < 1 << 32
