"""The mixing model's cells in Python (FORMAT.md, "Codec 3"): what ``mixed.c`` computes, flag by flag."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np

from laconic.pack.codecs.layouts import Index
from laconic.pack.codecs.symbols import Coder, Counts
from laconic.records import IntArray

Sizes = tuple[int, int, int, bool]
"""Rows, columns, columns of a group, whether cells are coded column by column."""
Decide = Callable[[int, int], int]
"""A flag, from its probability and (when writing) its value."""

_TOP, _END = 65535, 3071
_EXPONENT, _DIRECT = 20, 12
# Initial weights of the contexts: "not zero", sign, the exponent's first flag and its further ones, mantissa.
_INITIAL = (
    (60, 50, 220, 60, 75, 95, 75, 145, 120),
    (450, 50, 90, 125, 405, 330),
    (120, 50, 95, 165, 65, 120, 115, 0, 195),
    (175, 100, 40, 215, 55, 135, 85, 0, 305),
    (130, 90, 80, 115, 25, 55, 20, 0, 165),
)
_ZERO, _SIGN, _FIRST, _FURTHER, _MANTISSA = range(5)
_UPPER = (
    *(
        32768,
        36843,
        40793,
        44511,
        47911,
        50941,
        53581,
        55834,
        57724,
        59287,
        60565,
        61598,
        62428,
        63090,
        63615,
    ),
    *(
        64030,
        64357,
        64614,
        64816,
        64974,
        65097,
        65194,
        65269,
        65328,
        65374,
        65410,
        65438,
        65459,
        65476,
        65489,
    ),
    *(
        65500,
        65508,
        65514,
        65519,
        65523,
        65526,
        65528,
        65530,
        65531,
        65532,
        65533,
        65534,
        65534,
        65535,
        65535,
    ),
    *(65535, 65535, 65535, 65536),
)
_LOGISTIC = (*((1 << 16) - p for p in _UPPER[:0:-1]), *_UPPER)  # 2^16 / (1 + exp(-k / 4)), k = -48..48


def squash(x: int) -> int:
    """The probability of log odds x / 256, in units of 2^-16.

    >>> squash(0), squash(256)
    (32768, 47911)
    """
    k, part = divmod(min(max(x, -_END), _END) + _END + 1, 64)
    return (_LOGISTIC[k] * (64 - part) + _LOGISTIC[k + 1] * part) >> 6


def stretches() -> list[int]:
    """For each p // 16 the log odds, in units of 1/256: the least x with squash(x) >= 16 * (p // 16) + 8."""
    table, x = [], -_END
    for k in range(4096):
        while x < _END and squash(x) < 16 * k + 8:
            x += 1
        table.append(x)
    return table


def scale(x: int, fine: int) -> int:
    """0 for 0, else 1 + the place of x in a scale of 2^fine steps per octave.

    >>> [scale(x, 1) for x in (0, 1, 2, 3, 4, 6)]
    [0, 1, 3, 4, 5, 6]
    """
    if x < 1:
        return 0
    b = x.bit_length() - 1
    part = x >> (b - fine) if b >= fine else x << (fine - b)
    return 1 + (b << fine) + (part & ((1 << fine) - 1))


def _capped(x: int) -> int:
    return min(x, _TOP)


def _sign(x: int) -> int:
    return (x > 0) - (x < 0) + 1


class _Slot:
    """A probability in units of 2^-16, and how many flags it has seen."""

    __slots__ = ("n", "p")

    def __init__(self) -> None:
        self.p, self.n = 1 << 15, 0

    def move(self, bit: int, rate: int, most: int) -> None:
        """Move towards the flag."""
        self.p = min(max(self.p + (((bit and _TOP) - self.p) * rate >> 16), 16), _TOP - 15)
        self.n = min(self.n + 1, most)


class _Seen:
    """Of some cells: the sum of their magnitudes, how many are not zero, how many there are."""

    __slots__ = ("hits", "n", "sum")

    def __init__(self) -> None:
        self.sum = self.hits = self.n = 0

    def add(self, size: int) -> None:
        """Count a cell."""
        self.sum += size
        self.hits += size != 0
        self.n += 1

    def mean(self, prior: int, strength: int) -> int:
        """The mean magnitude in units of 1/64, of which ``strength`` cells are the prior's."""
        return _capped((self.sum * 64 + prior * strength) // (self.n + strength))

    def density(self, prior: int, strength: int) -> int:
        """The part that is not zero, in units of 1/1024."""
        return (self.hits * 1024 + prior * strength) // (self.n + strength)


class _Mixer:
    """Probabilities of all contexts, and the weights that mix them."""

    def __init__(self, decide: Decide) -> None:
        self._decide = decide
        self._stretch = stretches()
        self._weights = [[64 * w for w in row] for row in _INITIAL]
        self._parents: dict[tuple[int, ...], _Slot] = defaultdict(_Slot)
        self._slots: dict[tuple[int, ...], _Slot] = defaultdict(_Slot)

    def even(self, known: int) -> int:
        """A flag without a model."""
        return self._decide(1 << 14, known)

    def flag(self, which: int, node: tuple[int, ...], contexts: list[int | None], known: int) -> int:
        """One decision: the node's own log odds, and what its contexts (None: not in use) add to them."""
        parent, weights = self._parents[node], self._weights[which]
        base = self._stretch[parent.p >> 4]
        found = [(k, self._slots[(*node, k, at)]) for k, at in enumerate(contexts) if at is not None]
        for _, slot in found:
            if not slot.n:
                slot.p = parent.p
        added = [self._stretch[slot.p >> 4] - base for _, slot in found]
        p = squash(base + (sum(weights[k] * x for (k, _), x in zip(found, added, strict=True)) >> 16))
        bit = self._decide(max(1, p >> 1), known)
        error = (bit << 16) - p
        for (k, slot), x in zip(found, added, strict=True):
            weights[k] = min(max(weights[k] + (x * error * 2 >> 16), -(1 << 20)), 1 << 20)
            slot.move(bit, (1 << 16) // (slot.n + 3), 255)
        parent.move(bit, 655360 // (10 * parent.n + 16), 1000)
        return bit


class _Cells:
    """The cells so far, and the contexts that follow from them."""

    def __init__(self, sizes: Sizes, tables: Index, decide: Decide) -> None:
        self.rows, self.columns, self.inner, self.by_columns = sizes
        at, *around = tables.reshape(5, self.columns).tolist()
        self._group = [column // self.inner for column in at]
        self._pixel = [column % self.inner for column in at]
        self._around = list(zip(*around, strict=True))
        self.values = [[0] * (self.columns + 2) for _ in range(self.rows)]
        self._mixer = _Mixer(decide)
        self._all = _Seen()
        self._seen: dict[tuple[int, ...], _Seen] = defaultdict(_Seen)
        self._balance: dict[tuple[int, int], int] = defaultdict(int)

    def code(self, known: list[list[int]] | None) -> None:
        """Code all cells in order."""
        first, second = range(self.rows), range(self.columns)
        order = [(i, j) for j in second for i in first] if self.by_columns else []
        for i, j in order or ((i, j) for i in first for j in second):
            self._cell(i, j, 0 if known is None else known[i][j])

    def _cell(self, i: int, j: int, known: int) -> None:
        row = self.values[i]
        near = [row[k] for k in self._around[j]]
        up = self.values[i - 1][j] if i else 0
        corners = (near[2] != 0) + (near[3] != 0)
        states = min(abs(near[0]), 3) + 4 * min(abs(near[1]), 3) + 16 * min(abs(up), 3) + 64 * corners
        x = 0
        if self._mixer.flag(_ZERO, (0,), self._zero_contexts(i, j, near, up, states), known != 0):
            positive = self._mixer.flag(_SIGN, (1,), self._sign_contexts(i, j, near, up), known > 0)
            size = self._size(self._size_contexts(i, j, near, states), abs(known))
            x = size if positive else -size
            for place in ((0, i), (1, j)):
                self._balance[place] += 1 if positive else -1
        row[j] = x
        self._all.add(abs(x))
        for seen in self._of(i, j):
            seen.add(abs(x))

    def _of(self, i: int, j: int) -> list[_Seen]:
        """Of this cell's row and column, and, with groups, of its row's group and pixel."""
        places: list[tuple[int, ...]] = [(0, i), (1, j)]
        if self.inner > 1:
            places += [(2, i, self._group[j]), (3, i, self._pixel[j])]
        return [self._seen[place] for place in places]

    def _zero_contexts(self, i: int, j: int, near: list[int], up: int, states: int) -> list[int | None]:
        prior = max(1, (self._all.hits * 1024 + 512) // (self._all.n + 1))
        row, column, *rest = [s.density(prior, 16 if k < 2 else 8) for k, s in enumerate(self._of(i, j))]
        both = _capped(column * row // prior)
        up_next = self.values[i - 1][j + 1] if i and j + 1 < self.columns else 0
        flags = [x != 0 for x in (*near, up, up_next)]
        contexts = [scale(both, 2), scale(column, 1) * 64 + scale(row, 1)]
        contexts += [scale(_nearby(near), 1) * 64 + scale(both, 1), sum(f << k for k, f in enumerate(flags))]
        if not rest:
            return [*contexts, j, i, states, None, None]
        whole = _capped(both * _capped(rest[0] * rest[1] // prior) // prior)
        return [*contexts, j, i, states, i * self.inner + self._pixel[j], scale(whole, 2)]

    def _size_contexts(self, i: int, j: int, near: list[int], states: int) -> list[int | None]:
        prior = max(1, _capped((self._all.sum * 64 + 32) // (self._all.n + 1)))
        row, column, *rest = [s.mean(prior, 8 if k < 2 else 4) for k, s in enumerate(self._of(i, j))]
        both, nearby = _capped(column * row // prior), scale(_nearby(near), 1)
        contexts = [
            scale(both, 2),
            scale(column, 1) * 64 + scale(row, 1),
            nearby * 32 + scale(both, 0),
            nearby,
        ]
        if not rest:
            return [*contexts, j, i, states, None, None]
        whole = _capped(both * _capped(rest[0] * rest[1] // prior) // prior)
        return [*contexts, j, i, states, None, scale(whole, 2)]

    def _sign_contexts(self, i: int, j: int, near: list[int], up: int) -> list[int | None]:
        left, above, *corners = map(_sign, near)
        up2 = self.values[i - 2][j] if i > 1 else 0
        both = 3 * left + above
        by_column, by_row = (
            min(max(self._balance[place], -top), top) + top for place, top in (((1, j), 3), ((0, i), 6))
        )
        return [
            by_column, by_row // 2, 3 * _sign(up) + _sign(up2), 9 * _sign(up) + both,
            (3 * corners[0] + corners[1]) * 9 + both, both,
        ]  # fmt: skip

    def _size(self, contexts: list[int | None], known: int) -> int:
        """The exponent in unary, then the lower bits from the top: three modelled, the rest even."""
        exponent, more = 0, 1
        while exponent < _EXPONENT and more:
            which, used = _FURTHER if exponent else _FIRST, contexts if exponent < _DIRECT else []
            more = self._mixer.flag(which, (2, exponent), used, known >> exponent > 1)
            exponent += more
        size, used = 1, contexts if exponent < 4 else []
        for at in range(exponent - 1, -1, -1):
            bit = known >> at & 1
            if size > 7:
                size = 2 * size + self._mixer.even(bit)
            else:
                size = 2 * size + self._mixer.flag(_MANTISSA, (3, exponent, size), used, bit)
        return size


def _nearby(near: list[int]) -> int:
    left, above, *corners = map(abs, near)
    return _capped((2 * left + 2 * above + sum(corners)) * 16)


def read_cells(coder: Coder, sizes: Sizes, tables: Index) -> IntArray:
    """The integers of all cells, from the stream."""
    one = np.zeros(1, np.int64)

    def decide(probability: int, _: int) -> int:
        one[0] = probability
        return int(coder.flags(one, None)[0])

    cells = _Cells(sizes, tables, decide)
    cells.code(None)
    return np.array(cells.values, np.int32)[:, : cells.columns]


def write_cells(part: IntArray, sizes: Sizes, tables: Index) -> tuple[Counts, IntArray]:
    """The probabilities and flags that code all cells, in order."""
    probabilities: list[int] = []
    flags: list[int] = []

    def decide(probability: int, known: int) -> int:
        probabilities.append(probability)
        flags.append(int(known))
        return int(known)

    _Cells(sizes, tables, decide).code(part.tolist())
    return np.array(probabilities, np.int64), np.array(flags, np.int32)
