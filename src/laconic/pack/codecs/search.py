"""The settings of the adaptive model that take the fewest bits for one matrix. No part of the format.

Each candidate is measured, not coded: the model's probabilities of what is known give its bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from laconic.pack.codecs import order0
from laconic.pack.codecs.cells import code_signs
from laconic.pack.codecs.known_cells import KnownCells
from laconic.pack.codecs.layouts import Flags, Geometry, Index, Trail, geometries
from laconic.pack.codecs.lines import code_lines
from laconic.pack.codecs.settings import MAX_ENTRIES, MAX_LINES, Settings, density_code
from laconic.pack.codecs.sizes import Levels, crowding, size_bits
from laconic.pack.codecs.symbols import Meter
from laconic.records import IntArray

MAX_CELLS = 1 << 20
MAX_HITS = 1 << 18


def background_of(values: IntArray, fit: order0.Fit) -> int:
    """The most frequent integer, the one nearest zero on a tie."""
    if fit.table.low_bits:
        distinct, seen = np.unique(values, return_counts=True)
        tied = distinct[seen == seen.max()].tolist()
    else:
        tied = (np.flatnonzero(fit.seen == fit.seen.max()) + fit.table.lowest).tolist()
    return int(min(tied, key=lambda v: (abs(v), v)))


def is_small(levels: Levels) -> bool:
    """Whether the adaptive model is allowed, and fast enough, for this matrix."""
    if levels.size > MAX_ENTRIES or sum(levels.shape) > MAX_LINES:
        return False
    hit = levels != 0
    rows, columns = int(hit.any(1).sum()), int(hit.any(0).sum())
    return rows * columns <= MAX_CELLS and int(hit.sum()) <= MAX_HITS


class _Search:
    """Bits of the three parts of the adaptive model; the total is their sum, so each has its own measure."""

    def __init__(self, levels: Levels, options: tuple[Geometry, ...], hint: Flags | None) -> None:
        self._options, self._hint = options, hint
        self._lines: dict[int, float] = {}
        self._signs: dict[Geometry, float] = {}
        self._crowds: dict[Geometry, Index] = {}
        hit = levels != 0
        self._rows, self._columns = hit.any(1), hit.any(0)
        self.at = np.flatnonzero(self._rows), np.flatnonzero(self._columns)
        self.part = levels[np.ix_(*self.at)]
        self.sizes = np.abs(self.part[self.part != 0])
        self._cells = KnownCells(self.at[1], self.part) if min(self.part.shape) > 1 else None

    def lines(self, width: int) -> float:
        """Bits of the row and column flags."""
        if width not in self._lines:
            meter = Meter()
            code_lines(meter, len(self._rows), None, 0, self._rows)
            code_lines(meter, len(self._columns), self._hint, width, self._columns)
            self._lines[width] = meter.total
        return self._lines[width]

    def zeros(self, settings: Settings, geometry: int) -> float:
        """Bits of lines, zeros and signs."""
        meter, option = Meter(), self._options[geometry]
        if self._cells is None:
            code_signs(meter, *self.at, settings, option, self.part)
            return meter.total + self.lines(option.width)
        meter.flags(self._cells.probabilities(settings, option), self._cells.flags)
        return meter.total + self._sign_bits(self._cells, option) + self.lines(option.width)

    def _sign_bits(self, cells: KnownCells, geometry: Geometry) -> float:
        if geometry not in self._signs:
            meter, signs = Meter(), cells.signs(geometry)
            meter.flags(signs.probability, signs.positive)
            self._signs[geometry] = meter.total
        return self._signs[geometry]

    def magnitudes(self, settings: Settings, geometry: int) -> float:
        """Bits of the magnitudes."""
        return size_bits(self._crowd(settings, geometry), settings, self.sizes)

    def _crowd(self, settings: Settings, geometry: int) -> Index:
        """Number of neighbours of each non-background entry if the settings use it; else one context."""
        if not settings.sizes_near:
            return np.zeros(self.sizes.size, np.int64)
        option = self._options[geometry]
        if option not in self._crowds:
            self._crowds[option] = crowding(self.part, np.nonzero(self.part), self.at[1], option)
        return self._crowds[option]


def best_settings(
    levels: Levels, shape: tuple[int, ...], background: int, trail: Trail
) -> tuple[float, Settings, int]:
    """Coordinate descent over geometry and factor strengths: (bits, settings, geometry)."""
    options = geometries(shape, trail.rows)
    costs = _Search(levels, options, trail.hint(levels.shape[1]))
    density = density_code(costs.sizes.size, costs.part.size) if len(shape) > 1 else 0
    best, geometry = Settings(density, 1, 0, background), 0
    least = costs.zeros(best, 0)
    if min(costs.part.shape) > 1:
        for number, settings in _starts(best, options):
            trial = costs.zeros(settings, number)
            if trial < least:
                best, geometry, least = settings, number, trial
        for change in _changes(options[geometry]):
            changed = best._replace(**change)
            trial = costs.zeros(changed, geometry)
            if trial < least:
                best, least = changed, trial
    trials = [best._replace(classes=c, low_bits=b) for c, b in _size_classes(int(costs.sizes.max()))]
    if options[geometry].width > 1:
        trials += [trial._replace(sizes_near=True) for trial in trials]
    bits, chosen = min(((costs.magnitudes(t, geometry), k) for k, t in enumerate(trials)))
    return least + bits, trials[chosen], geometry


def _starts(base: Settings, options: tuple[Geometry, ...]) -> Iterator[tuple[int, Settings]]:
    """The column factor alone, then every geometry that differs from none."""
    yield 0, base._replace(column=2)
    for number, option in enumerate(options):
        if option.width > 1:
            yield number, base._replace(near=2)
        elif option.inner > 1:
            yield number, base._replace(channel=2)


def _changes(geometry: Geometry) -> Iterator[dict[str, Any]]:
    """Single changes, each tried on the best settings so far."""
    if geometry.inner > 1:
        yield from ({"channel": 3}, {"pixel": 2}, {"channel": 2}, {"channel": 0})
    yield from ({"row": 2}, {"column": 2}, {"column": 1})
    if geometry.width > 1:
        yield from ({"near": 3}, {"near": 0})


def _size_classes(largest: int) -> list[tuple[int, int]]:
    """Pairs (classes, low_bits) to measure for magnitudes up to ``largest``."""
    top = largest - 1
    least = max(0, top.bit_length() - 8)
    return [((top >> low) + 1, low) for low in range(least, max(least, min(least + 5, top.bit_length())) + 1)]
