"""Codec 3 in plain Python, written from FORMAT.md alone ("Codec 3, mixing"): its cells, flag by flag."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, floor

from tests.helpers.integer_ans import IntegerAns, table_of_probability

FIRST_WEIGHTS = {
    "zero": [60, 50, 220, 60, 75, 95, 75, 145, 120],
    "sign": [450, 50, 90, 125, 405, 330],
    "first": [120, 50, 95, 165, 65, 120, 115, 0, 195],
    "further": [175, 100, 40, 215, 55, 135, 85, 0, 305],
    "mantissa": [130, 90, 80, 115, 25, 55, 20, 0, 165],
}
LOGISTIC = [floor(2**16 / (1 + exp(-k / 4)) + 0.5) for k in range(-48, 49)]


def probability_of(x: int) -> int:
    x = min(max(x, -3071), 3071) + 3072
    return (LOGISTIC[x // 64] * (64 - x % 64) + LOGISTIC[x // 64 + 1] * (x % 64)) // 64


def _odds_table() -> list[int]:
    out: list[int] = []
    for k in range(4096):
        x = out[-1] if out else -3071
        while x < 3071 and probability_of(x) < 16 * k + 8:
            x += 1
        out.append(x)
    return out


ODDS = _odds_table()


def step(x: int, fine: int) -> int:
    if x == 0:
        return 0
    octave = x.bit_length() - 1
    return 1 + octave * 2**fine + (x * 2**fine // 2**octave) % 2**fine


def cap(x: int) -> int:
    return min(x, 65535)


class Mixer:
    """Probabilities are lists [p, n]."""

    def __init__(self, coder: IntegerAns) -> None:
        self.coder = coder
        self.weights = {kind: [64 * w for w in row] for kind, row in FIRST_WEIGHTS.items()}
        self.nodes: dict[tuple[object, ...], list[int]] = {}
        self.slots: dict[tuple[object, ...], list[int]] = {}

    def even(self) -> int:
        return self.coder.take(table_of_probability(2**14))

    def flag(self, kind: str, node: tuple[object, ...], contexts: dict[int, int]) -> int:
        own = self.nodes.setdefault((kind, node), [2**15, 0])
        base, weights, total = ODDS[own[0] // 16], self.weights[kind], 0
        slots, differences = {}, {}
        for k, context in contexts.items():
            slots[k] = self.slots.setdefault(
                (kind in ("zero", "sign"), kind == "sign", node, k, context), [0, 0]
            )
            if slots[k][1] == 0:
                slots[k][0] = own[0]
            differences[k] = ODDS[slots[k][0] // 16] - base
            total += weights[k] * differences[k]
        p = probability_of(base + total // 2**16)
        bit = self.coder.take(table_of_probability(max(1, p // 2)))
        for k, slot in slots.items():
            moved = weights[k] + differences[k] * (bit * 2**16 - p) * 2 // 2**16
            weights[k] = min(max(moved, -(2**20)), 2**20)
            self.move(slot, bit, 2**16 // (slot[1] + 3), 255)
        self.move(own, bit, 655360 // (10 * own[1] + 16), 1000)
        return bit

    @staticmethod
    def move(slot: list[int], bit: int, rate: int, most: int) -> None:
        p = slot[0] + (65535 * bit - slot[0]) * rate // 2**16
        slot[:] = [min(max(p, 16), 65520), min(slot[1] + 1, most)]


Near = Callable[[int, int, int, int], int]


class MixedCells:
    """``kept``: the original columns. ``values``: integers relative to the background, by (row, column)."""

    def __init__(self, coder: IntegerAns, rows: int, kept: list[int], inner: int, width: int) -> None:
        self.mixer, self.rows, self.kept = Mixer(coder), rows, kept
        self.inner, self.width = inner, width
        self.place = {column: k for k, column in enumerate(kept)}
        self.values: dict[tuple[int, int], int] = {}
        self.seen: dict[tuple[str, int, int], list[int]] = {}
        self.signs: dict[tuple[str, int], int] = {}

    def decode(self, by_columns: bool) -> None:
        cells = [(i, j) for i in range(self.rows) for j in range(len(self.kept))]
        for i, j in sorted(cells, key=lambda cell: cell[::-1]) if by_columns else cells:
            self.cell(i, j)

    def value(self, i: int, j: int) -> int:
        return self.values.get((i, j), 0)

    def near(self, i: int, j: int) -> list[int]:
        """Left, above, above left, above right."""
        if self.width == 0:
            return [self.value(i, j - back) for back in (1, 2, 3)] + [0]
        found, pixel = [], self.kept[j] % self.inner
        for right, down in ((-1, 0), (0, -1), (-1, -1), (1, -1)):
            x, y = pixel % self.width + right, pixel // self.width + down
            column = self.kept[j] + down * self.width + right
            inside = 0 <= x < self.width and y >= 0
            found.append(self.value(i, self.place[column]) if inside and column in self.place else 0)
        return found

    def places(self, i: int, j: int) -> list[tuple[str, int, int]]:
        group, pixel = divmod(self.kept[j], self.inner)
        some = [("all", 0, 0), ("column", j, 0), ("row", i, 0)]
        return some + ([("group", i, group), ("pixel", i, pixel)] if self.inner > 1 else [])

    def cell(self, i: int, j: int) -> None:
        near, up, up2 = self.near(i, j), self.value(i - 1, j), self.value(i - 2, j)
        left, above, *corners = map(abs, near)
        shared = {
            4: j,
            5: i,
            6: min(left, 3) + 4 * min(above, 3) + 16 * min(abs(up), 3) + 64 * sum(c > 0 for c in corners),
        }
        around = cap(16 * (2 * left + 2 * above + sum(corners)))
        flags = [x != 0 for x in (*near, up, self.value(i - 1, j + 1))]
        zero = {**shared, **self.averages(i, j, 1, 1024, 512, (16, 8))}
        zero |= {2: step(around, 1) * 64 + step(zero[-1], 1), 3: sum(f << k for k, f in enumerate(flags))}
        if self.inner > 1:
            zero[7] = i * self.inner + self.kept[j] % self.inner
        del zero[-1]
        x = 0
        if self.mixer.flag("zero", (), zero):
            size = {**shared, **self.averages(i, j, 0, 64, 32, (8, 4))}
            size |= {2: step(around, 1) * 32 + step(size[-1], 0), 3: step(around, 1)}
            del size[-1]
            positive = self.sign(i, j, near, up, up2)
            x = self.magnitude(size) * (1 if positive else -1)
            for line in (("column", j), ("row", i)):
                self.signs[line] = self.signs.get(line, 0) + (1 if positive else -1)
        self.values[i, j] = x
        for place in self.places(i, j):
            total, hits, n = self.seen.get(place, [0, 0, 0])
            self.seen[place] = [total + abs(x), hits + (x != 0), n + 1]

    def averages(
        self, i: int, j: int, what: int, unit: int, half: int, weights: tuple[int, int]
    ) -> dict[int, int]:
        """Contexts 0, 1 and 8; under -1 the product of row and column."""
        every = [self.seen.get(place, [0, 0, 0]) for place in self.places(i, j)]
        prior = max(1, cap((every[0][what] * unit + half) // (every[0][2] + 1)))
        column, row, *parts = (
            cap((s[what] * unit + prior * weights[k > 1]) // (s[2] + weights[k > 1]))
            for k, s in enumerate(every[1:])
        )
        both = cap(column * row // prior)
        found = {-1: both, 0: step(both, 2), 1: step(column, 1) * 64 + step(row, 1)}
        if parts:
            found[8] = step(cap(both * cap(parts[0] * parts[1] // prior) // prior), 2)
        return found

    def sign(self, i: int, j: int, near: list[int], up: int, up2: int) -> int:
        left, above, *corners = ((x > 0) - (x < 0) + 1 for x in near)
        up, up2 = ((x > 0) - (x < 0) + 1 for x in (up, up2))
        column, row = self.signs.get(("column", j), 0), self.signs.get(("row", i), 0)
        both = 3 * left + above
        contexts = [
            min(max(column, -3), 3) + 3,
            (min(max(row, -6), 6) + 6) // 2,
            3 * up + up2,
            9 * up + both,
            9 * (3 * corners[0] + corners[1]) + both,
            both,
        ]
        return self.mixer.flag("sign", (), dict(enumerate(contexts)))

    def magnitude(self, contexts: dict[int, int]) -> int:
        exponent = 0
        while exponent < 20:
            kind, used = "further" if exponent else "first", contexts if exponent < 12 else {}
            if not self.mixer.flag(kind, ("exponent", exponent), used):
                break
            exponent += 1
        m = 1
        for _ in range(exponent):
            if m > 7:
                m = 2 * m + self.mixer.even()
            else:
                used = contexts if exponent < 4 else {}
                m = 2 * m + self.mixer.flag("mantissa", (exponent, m), used)
        return m
