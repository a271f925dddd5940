"""The encoder's decisions: which model, which settings. Nothing here is part of the format.

Large tensors get the static table at once; small ones are measured under a handful of settings. Ties
go to the first candidate, so the same tensor always gets the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from laconic.pack import order0
from laconic.pack.adaptive import Levels, Settings, code_matrix, code_sizes, density_code
from laconic.pack.headers import Header, put_header
from laconic.pack.layouts import Geometry, Trail, geometries, matrix_shape
from laconic.pack.symbols import Meter
from laconic.pack.varint import Writer
from laconic.records import IntArray, IntTensor

MAX_ENTRIES = 1 << 22
MAX_LINES = 1 << 15
MAX_CELLS = 1 << 20
MAX_HITS = 1 << 18
_MAX_DICTIONARY = 4096


@dataclass(frozen=True, eq=False)
class Plan:
    """A header and the integers to code under it. ``symbols``: codec 1's; ``bits``: what the stream takes."""

    header: Header
    integers: IntArray
    symbols: IntArray | None
    bits: float
    lowest: int
    highest: int


def plan_tensor(tensor: IntTensor, trail: Trail) -> Plan:
    """The cheapest header for a tensor; ``trail`` is what earlier tensors left."""
    values = tensor.integers
    lowest, highest = (int(values.min()), int(values.max())) if values.size else (0, 0)
    plans = [_plan_one(tensor, values, (), lowest, highest, trail)]
    if values.size <= MAX_ENTRIES and highest - lowest >= 32:
        distinct = np.unique(values)
        if len(distinct) <= _MAX_DICTIONARY and 4 * len(distinct) <= highest - lowest:
            ranks = np.searchsorted(distinct, values).astype(np.int32)
            words = tuple(int(v) for v in distinct)
            plans.append(_plan_one(tensor, ranks, words, 0, len(words) - 1, trail))
    best = min(plans, key=lambda plan: header_bits(plan.header, trail) + plan.bits)
    return replace(best, lowest=lowest, highest=highest)


def header_bits(header: Header, trail: Trail) -> int:
    """Size of a header, in bits."""
    out = Writer()
    put_header(out, header, trail.rows)
    return 8 * len(out.data)


def _plan_one(
    tensor: IntTensor, values: IntArray, dictionary: tuple[int, ...], lowest: int, highest: int, trail: Trail
) -> Plan:
    """The cheaper of the two models for integers within the given extremes."""
    fit = order0.fit(values, lowest, highest)
    header = Header(tensor.integers.shape, tensor.grid, fit.table, dictionary)
    plan = Plan(header, values, fit.symbols, fit.bits, lowest, highest)
    if lowest == highest or values.size > MAX_ENTRIES:
        return plan
    background = _background(values, fit)
    levels = values.reshape(matrix_shape(values.shape)).astype(np.int64) - background
    if not _is_small(levels):
        return plan
    cost, settings, geometry = _search(levels, values.shape, background, trail)
    other = replace(header, model=settings, geometry=geometry)
    if cost + header_bits(other, trail) < fit.bits + header_bits(header, trail):
        return Plan(other, values, None, cost, lowest, highest)
    return plan


def _background(values: IntArray, fit: order0.Fit) -> int:
    """The most frequent integer, the one nearest zero on a tie."""
    if fit.table.low_bits:
        distinct, seen = np.unique(values, return_counts=True)
        tied = distinct[seen == seen.max()].tolist()
    else:
        tied = (np.flatnonzero(fit.seen == fit.seen.max()) + fit.table.lowest).tolist()
    return int(min(tied, key=lambda v: (abs(v), v)))


def _is_small(levels: Levels) -> bool:
    """Whether the adaptive model codes this within a fraction of a second."""
    if sum(levels.shape) > MAX_LINES:
        return False
    hit = levels != 0
    rows, columns = int(hit.any(1).sum()), int(hit.any(0).sum())
    return rows * columns <= MAX_CELLS and int(hit.sum()) <= MAX_HITS


def _search(
    levels: Levels, shape: tuple[int, ...], background: int, trail: Trail
) -> tuple[float, Settings, int]:
    """Coordinate descent over geometry and factor strengths: about ten measurements."""
    hit = levels != 0
    cells = int(hit.any(1).sum()) * int(hit.any(0).sum())
    classes, low_bits = _size_classes(np.abs(levels[hit]))
    base = Settings(density_code(int(hit.sum()), cells), classes, low_bits, background)
    if min(int(hit.any(1).sum()), int(hit.any(0).sum())) < 2:
        base = replace(base, density=0)
    options = geometries(shape, trail.rows)
    hint = trail.hint(levels.shape[1])

    def cost(settings: Settings, number: int) -> float:
        meter = Meter()
        code_matrix(meter, levels.shape, settings, options[number], hint, levels)
        return meter.total

    best, geometry = base, 0
    least = cost(base, 0)
    if base.density == 0:
        return least, best, geometry
    for settings, number in _candidates(best, options):
        trial = cost(settings, number)
        if trial < least:
            best, geometry, least = settings, number, trial
    for change in _refinements(options[geometry]):
        changed = replace(best, **change)  # type: ignore[arg-type]
        trial = cost(changed, geometry)
        if trial < least:
            best, least = changed, trial
    return least, best, geometry


def _candidates(base: Settings, options: tuple[Geometry, ...]) -> Iterator[tuple[Settings, int]]:
    """First pass: the column factor, then every geometry that differs from none."""
    yield replace(base, column=2), 0
    for number, option in enumerate(options):
        if option.width > 1:
            yield replace(base, near=2), number
        elif option.inner > 1:
            yield replace(base, pair=2), number


def _refinements(geometry: Geometry) -> Iterator[dict[str, int | bool]]:
    """Second pass: single changes, tried one after another on whatever has won so far."""
    if geometry.inner > 1:
        yield {"pair": 2}
        yield {"pair": 2, "by_pixel": True}
        yield {"pair": 1}
    yield {"row": 2}
    yield {"column": 2}
    yield {"column": 1}
    if geometry.width > 1:
        yield {"near": 3}
        yield {"near": 0}


def _size_classes(sizes: Levels) -> tuple[int, int]:
    """(classes, low_bits) that code these magnitudes in the fewest bits."""
    if not sizes.size:
        return 0, 0
    top = int(sizes.max()) - 1
    least = max(0, top.bit_length() - 8)
    best, chosen = math.inf, (1, least)
    for low_bits in range(least, min(least + 6, max(least, top.bit_length()) + 1)):
        settings = Settings(0, (top >> low_bits) + 1, low_bits)
        meter = Meter()
        code_sizes(meter, sizes.size, settings, sizes)
        if meter.total < best:
            best, chosen = meter.total, (settings.classes, low_bits)
    return chosen
