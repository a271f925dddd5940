"""A .lac decoder in plain Python, written from FORMAT.md alone: the oracle for every file that we write.

Slow and small on purpose: lists and integers, one symbol at a time, no numpy, none of the library's code.
It trusts its input; refusing bad files is not its job. The graph section is skipped.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace
from hashlib import sha256
from math import isqrt, prod

from tests.helpers.integer_ans import IntegerAns, table_of_bits, table_of_counts, table_of_probability
from tests.helpers.plain_bytes import Bytes, read_names
from tests.helpers.plain_exact import elements, rounded, shifted_ranks
from tests.helpers.plain_headers import Before, Fields, Other, Plain, any_header
from tests.helpers.plain_kinds import hashed, product, random_codes, shared_code
from tests.helpers.plain_mixed import MixedCells

ONE = 1 << 15
LINES, PAIRS = (0, 12, 40, 150), (0, 4, 10, 25)


@dataclass
class _Trail:
    rows: int | None = None
    used: list[bool] | None = None


def plain_decode(data: bytes, parent: bytes = b"") -> tuple[list[Plain], dict[str, str]]:
    """Tensors and aliases of a file; asserts both checksums and the stream's exact end.

    ``parent``: the bytes of the file that an incremental one needs.
    """
    assert data[:4] == b"LAC\x01"
    assert zlib.crc32(data[:-4]) == int.from_bytes(data[-4:], "little")
    source = Bytes(data[:-4])
    source.at = 4
    assert source.varint() == len(data) - source.at
    graph = source.take(source.varint())
    old: dict[str, Plain] = {}
    if graph[:2] == b"\0\0" and graph[2] & 1:
        assert graph[3:35] == sha256(parent).digest()
        tensors, names = plain_decode(parent)
        old = {tensor.name: tensor for tensor in tensors}
        old |= {alias: old[name] for alias, name in names.items()}
    n, n_aliases = source.varint(), source.varint()
    names = read_names(source, n + n_aliases)
    aliases = {name: names[source.varint()] for name in names[n:]}
    before = Before()
    headers = [any_header(source, before) for _ in range(n)]
    stream = _Stream(IntegerAns(source.take(len(source.data) - source.at)), old)
    found = [stream.tensor(name, header) for name, header in zip(names, headers, strict=False)]
    assert stream.coder.finished
    assert stream.coder.state == 1 << 31 | zlib.crc32(stream.coded) % 2**31
    return found, aliases


class _Stream:
    """The symbols, and what decoding one tensor leaves for the next."""

    def __init__(self, coder: IntegerAns, parent: dict[str, Plain]) -> None:
        self.coder, self.trail, self.coded, self.parent = coder, _Trail(), b"", parent

    def tensor(self, name: str, header: Plain | Fields | Other) -> Plain:
        if isinstance(header, Plain):
            return replace(header, name=name)
        if isinstance(header, Other):
            parts = [self.tensor("", part) for part in header.parts]
            if header.code == 10:
                return Plain(name, header.shape, [], shared_code(prod(header.shape), *header.fields))
            if header.code > 3:
                return _of_a_checkpoint(name, header, parts, self.parent)
            return Plain(name, header.shape, [], _values_of(header, parts))
        if header.chunks:
            integers = _from_chunks(header)
            self.trail = _Trail(header.shape[0]) if len(header.shape) > 1 else self.trail
        else:
            integers = _integers(self.coder, header, self.trail)
            self.coded += _narrow(integers)
            self.trail = _next_trail(self.trail, header, integers)
        values = header.grid.reals(header.shape, integers)
        data = struct.pack(f"<{len(values)}f", *values)
        return Plain(name, header.shape, integers, values, 0, data, header.grid)


def _integers(coder: IntegerAns, header: Fields, trail: _Trail) -> list[int]:
    integers = _adaptive(coder, header, trail) if header.adaptive else _static(coder, header)
    return [header.words[q] for q in integers] if header.words else integers


def _from_chunks(header: Fields) -> list[int]:
    """Each chunk as the only tensor of a stream of its own."""
    out: list[int] = []
    for k, data in enumerate(header.chunks):
        rows = min(header.rows, header.shape[0] - k * header.rows)
        coder = IntegerAns(data)
        integers = _integers(coder, replace(header, shape=(rows, *header.shape[1:])), _Trail())
        assert coder.finished
        assert coder.state == 1 << 31 | zlib.crc32(_narrow(integers)) % 2**31
        out += integers
    return out


def _values_of(header: Other, parts: list[Plain]) -> list[float]:
    if header.code == 0:
        return hashed(prod(header.shape), header.fields[0], parts[0].values)
    if header.code == 1:
        seed, block, scales = header.fields
        return random_codes(header.shape, seed, block, parts[0].integers, scales)
    left, right = parts
    return product(left.values, right.values, left.shape[0], right.shape[0], right.shape[1])


def _of_a_checkpoint(name: str, header: Other, parts: list[Plain], parent: dict[str, Plain]) -> Plain:
    """Codes 4 to 8: tensors of any type, whose bytes are given."""
    size = prod(header.shape)
    if header.code == 5:
        kind, (part,) = header.fields[0], parts
        return Plain(name, header.shape, part.integers, [], kind, rounded(part.values, kind), part.grid)
    if header.code == 4:
        kind = header.fields[0].type
        return Plain(name, header.shape, [], [], kind, elements(header.fields[0], size, True))
    old = parent[header.fields[1] or name]
    assert old.shape == header.shape
    if header.code == 8:
        kind = header.fields[0].type
        change = elements(header.fields[0], size, False)
        return Plain(name, header.shape, [], [], kind, shifted_ranks(old.data, change, kind))
    assert old.type == header.fields[0]
    if header.code == 6:
        return replace(old, name=name)
    assert old.grid is not None
    sums = [a + b for a, b in zip(old.integers, parts[0].integers, strict=True)]
    data = rounded(old.grid.reals(header.shape, sums), old.type)
    return Plain(name, header.shape, sums, [], old.type, data, old.grid)


def _narrow(integers: list[int]) -> bytes:
    letter = next(
        x for x, top in zip("bhi", (7, 15, 31), strict=True) if all(-(2**top) <= q < 2**top for q in integers)
    )
    return struct.pack(f"<{len(integers)}{letter}", *integers)


def _next_trail(trail: _Trail, header: Fields, integers: list[int]) -> _Trail:
    if len(header.shape) < 2:
        return trail
    if not 1 <= len(integers) <= 2**22:
        return _Trail(header.shape[0])
    zero = header.grid.zero
    width = len(integers) // header.shape[0]
    lines = [integers[k : k + width] for k in range(0, len(integers), width)]
    return _Trail(header.shape[0], [any(q != zero for q in line) for line in lines])


# --- models -----------------------------------------------------------------------------------------


def _clip(probability: int) -> int:
    return min(max(probability, 1), ONE - 1)


def _kt(hits: int, total: int) -> int:
    return _clip((2 * hits + 1) * ONE // (2 * total + 2))


def _draw(coder: IntegerAns, counts: list[int]) -> int:
    return coder.take(table_of_counts(counts)) if len(counts) > 1 else 0


def _lows(coder: IntegerAns, width: int, n: int) -> list[int]:
    out = [0] * n
    for shift in range(0, width, 16):
        table = table_of_bits(min(16, width - shift))
        out = [value | coder.take(table) << shift for value in out]
    return out


def _static(coder: IntegerAns, f: Fields) -> list[int]:
    n = prod(f.shape)
    classes = [_draw(coder, f.counts) for _ in range(n)]
    return [
        f.lowest + (c << f.low_bits) + low
        for c, low in zip(classes, _lows(coder, f.low_bits, n), strict=True)
    ]


def _geometry(f: Fields, columns: int, trail: _Trail) -> tuple[int, int]:
    number = f.flags & 3 if f.mixed else f.flags >> 10 & 3
    if number == 1 and len(f.shape) > 2 and min(f.shape) > 0:
        return prod(f.shape[2:]), f.shape[-1]
    if number == 2 and len(f.shape) > 1 and trail.rows and columns and columns % trail.rows == 0:
        return columns // trail.rows, isqrt(columns // trail.rows)
    if number == 3 and len(f.shape) == 2 and columns > 1 and isqrt(columns) ** 2 == columns:
        return columns, isqrt(columns)
    return 1, 0


def _lines(coder: IntegerAns, n: int, hints: list[bool] | None, width: int) -> list[int]:
    hits, total, out = [0] * 12, [0] * 12, [0] * n
    for k in range(n):
        h = 0 if hints is None else 2 if hints[k] else 1
        context = 4 * h + 2 * (out[k - width] if 0 < width <= k else 0) + (out[k - 1] if k else 0)
        out[k] = coder.take(table_of_probability(_kt(hits[context], total[context])))
        hits[context] += out[k]
        total[context] += 1
    return [k for k in range(n) if out[k]]


def _adaptive(coder: IntegerAns, f: Fields, trail: _Trail) -> list[int]:
    rows = f.shape[0] if len(f.shape) > 1 else 1
    columns = prod(f.shape[1:]) if len(f.shape) > 1 else prod(f.shape)
    inner, width = _geometry(f, columns, trail)
    hints = None
    if trail.used is not None and trail.rows and columns and columns % trail.rows == 0:
        hints = [trail.used[j // (columns // trail.rows)] for j in range(columns)]
    kept_rows = _lines(coder, rows, None, 0)
    kept = _lines(coder, columns, hints, width)
    if f.mixed:
        return _mixed(coder, f, (rows, columns), kept_rows, (kept, inner, width))
    grid = _Cells(f, kept, inner, width)
    if min(len(kept_rows), len(kept)) < 2:
        _single_line(coder, grid, len(kept_rows))
    else:
        _batches(coder, grid, len(kept_rows))
    out = [f.background] * (rows * columns)
    cells = [(i, j) for i in range(len(kept_rows)) for j in range(len(kept)) if grid.state[i, j] > 1]
    for (i, j), size in zip(cells, _sizes(coder, grid, cells), strict=True):
        out[kept_rows[i] * columns + kept[j]] += size if grid.state[i, j] == 3 else -size
    return out


def _mixed(
    coder: IntegerAns,
    f: Fields,
    shape: tuple[int, int],
    kept_rows: list[int],
    of_columns: tuple[list[int], int, int],
) -> list[int]:
    cells = MixedCells(coder, len(kept_rows), *of_columns)
    cells.decode(bool(f.flags >> 2 & 1))
    out = [f.background] * (shape[0] * shape[1])
    for (i, j), value in cells.values.items():
        out[kept_rows[i] * shape[1] + of_columns[0][j]] += value
    return out


class _Cells:
    """States of the kept cells (0 unknown, 1 zero, 2 negative, 3 positive) and their neighbours."""

    def __init__(self, f: Fields, kept: list[int], inner: int, width: int) -> None:
        self.f, self.kept, self.inner, self.width = f, kept, inner, width
        self.place = {column: k for k, column in enumerate(kept)}
        self.state: dict[tuple[int, int], int] = {}

    def near(self, i: int, j: int, down: int, right: int) -> int:
        if self.width == 0:
            return 0
        pixel = self.kept[j] % self.inner
        x, y = pixel % self.width + right, pixel // self.width + down
        if not (0 <= x < self.width and y >= 0 and y * self.width + x < self.inner):
            return 0
        column = self.kept[j] + down * self.width + right
        return self.state.get((i, self.place[column]), 0) if column in self.place else 1

    def contexts(self, i: int, j: int) -> list[tuple[str, int, int, int]]:
        """(factor, context, strength) of the factors in use, in their order."""
        flags, column = self.f.flags, self.kept[j]
        left, above = (min(2, self.near(i, j, *step)) for step in ((0, -1), (-1, 0)))
        corners = sum(self.near(i, j, -1, d) > 1 for d in (-1, 1))
        every = [
            ("row", i, 0, LINES[flags & 3]),
            ("column", j, 0, LINES[flags >> 2 & 3]),
            ("channel", i, column // self.inner, PAIRS[flags >> 4 & 3]),
            ("pixel", i, column % self.inner, PAIRS[flags >> 6 & 3]),
            ("near", 3 * left + above + 9 * corners, 0, PAIRS[flags >> 8 & 3]),
        ]
        return [factor for factor in every if factor[3]]


def _single_line(coder: IntegerAns, grid: _Cells, rows: int) -> None:
    cells = [(i, j) for i in range(rows) for j in range(len(grid.kept))]
    start = hits = 0
    while start < len(cells):
        piece = cells[start : start + max(1, start // 16)]
        probability = _kt(hits, start)
        for cell in piece:
            positive = coder.take(table_of_probability(probability))
            grid.state[cell] = 2 + positive
            hits += positive
        start += len(piece)


def _batches(coder: IntegerAns, grid: _Cells, rows: int) -> None:
    counts: dict[tuple[str, int, int], list[int]] = {}
    signs = [[0, 0] for _ in range(9)]
    d = grid.f.density
    base = _clip(((16 + d % 16) << d // 16) // 32)
    columns = len(grid.kept)
    long = max(rows, columns)
    batches = min(long, 1024)
    for b in range(batches):
        shifts = range(b, long, batches)
        if rows <= columns:
            cells = [(i, (i + s) % columns) for s in shifts for i in range(rows)]
        else:
            cells = [((j + s) % rows, j) for s in shifts for j in range(columns)]
        contexts = [grid.contexts(i, j) for i, j in cells]
        probabilities = [_probability(base, counts, context) for context in contexts]
        flags = [coder.take(table_of_probability(probability)) for probability in probabilities]
        for context, flag in zip(contexts, flags, strict=True):
            for name, one, two, _ in context:
                pair = counts.setdefault((name, one, two), [0, 0])
                pair[0] += flag
                pair[1] += 1
        hit = [cell for cell, flag in zip(cells, flags, strict=True) if flag]
        where = [_sign_context(grid, i, j) for i, j in hit]
        positive = [coder.take(table_of_probability(_kt(*signs[k]))) for k in [*where]]
        for k, sign in zip(where, positive, strict=True):
            signs[k][0] += sign
            signs[k][1] += 1
        grid.state.update({cell: 1 for cell, flag in zip(cells, flags, strict=True) if not flag})
        grid.state.update({cell: 2 + sign for cell, sign in zip(hit, positive, strict=True)})


def _sign_context(grid: _Cells, i: int, j: int) -> int:
    left, above = (max(0, grid.near(i, j, *step) - 1) for step in ((0, -1), (-1, 0)))
    return 3 * left + above


def _probability(
    base: int, counts: dict[tuple[str, int, int], list[int]], context: list[tuple[str, int, int, int]]
) -> int:
    y = base
    for name, one, two, strength in context:
        hits, total = counts.get((name, one, two), [0, 0])
        u = _clip((hits * ONE + strength * base) // (total + strength))
        up, down = y * u * (ONE - base), (ONE - y) * (ONE - u) * base
        y = _clip(up * ONE // (up + down))
    return y


def _sizes(coder: IntegerAns, grid: _Cells, cells: list[tuple[int, int]]) -> list[int]:
    f = grid.f
    steps = ((0, -1), (-1, 0), (0, 1), (1, 0)) if f.flags >> 12 & 1 else ()
    groups = [sum(grid.near(i, j, *step) > 1 for step in steps) for i, j in cells]
    classes, counts = [0] * len(cells), [1] * f.classes
    for group in range(max(groups, default=-1) + 1):
        counts = [1 + c // 16 for c in counts]
        members = [k for k, g in enumerate(groups) if g == group]
        start = 0
        while start < len(members):
            piece = members[start : start + max(1, start // 16)]
            for k in piece:
                classes[k] = _draw(coder, counts)
            for k in piece:
                counts[classes[k]] += 2
            start += len(piece)
    return [
        1 + (c << f.low_bits) + low
        for c, low in zip(classes, _lows(coder, f.low_bits, len(cells)), strict=True)
    ]
