"""All probabilities at once are the probabilities that a reader works out batch by batch."""

from __future__ import annotations

import numpy as np
import pytest

from laconic.pack.codecs.cells import code_signs
from laconic.pack.codecs.known_cells import KnownCells
from laconic.pack.codecs.layouts import Geometry, Index
from laconic.pack.codecs.settings import Settings, density_code
from laconic.pack.codecs.sizes import code_sizes, size_bits
from laconic.pack.codecs.symbols import Counts, Meter
from laconic.records import IntArray

EVERY_FACTOR = Settings(0, 4, 0, 0, row=1, column=3, channel=2, pixel=1, near=3)


class Told(Meter):
    """A reader that is told the symbols in the order of the writer, and notes the probabilities."""

    def __init__(self, symbols: IntArray) -> None:
        super().__init__()
        self._symbols, self._at = symbols, 0
        self.probabilities: list[Counts] = []

    def flags(self, probabilities: Counts, known: IntArray | None) -> IntArray:
        assert known is None, "it reads"
        self.probabilities.append(probabilities)
        self._at += len(probabilities)
        return self._symbols[self._at - len(probabilities) : self._at]


class Noted(Meter):
    """A writer that notes what it was given."""

    def flags(self, probabilities: Counts, known: IntArray | None) -> IntArray:
        assert known is not None
        self.given = probabilities, np.asarray(known, np.int32)
        return self.given[1]


def _matrix(rows: int, columns: int, seed: int) -> tuple[Index, Index, Counts]:
    rng = np.random.default_rng(seed)
    column_at = np.sort(rng.choice(2 * columns, columns, replace=False))
    part = rng.choice([-2, -1, 0, 0, 0, 1, 3], (rows, columns)).astype(np.int64)
    return np.arange(rows), column_at, part


@pytest.mark.parametrize("settings", [EVERY_FACTOR, Settings(80, 4, near=1), Settings(80, 4, row=2)])
@pytest.mark.parametrize(
    ("rows", "columns", "geometry"),
    [(5, 18, Geometry(9, 3)), (30, 7, Geometry()), (2, 1500, Geometry(4, 2)), (1500, 3, Geometry(9, 3))],
)
def test_the_probabilities_are_those_of_a_reader(
    rows: int, columns: int, geometry: Geometry, settings: Settings
) -> None:
    row_at, column_at, part = _matrix(rows, columns, rows)
    settings = settings._replace(density=density_code(int((part != 0).sum()), part.size))
    writer = Noted()
    KnownCells(column_at, part).code(writer, settings, geometry)
    probabilities, symbols = writer.given
    reader = Told(symbols)
    signs = code_signs(reader, row_at, column_at, settings, geometry, None)
    assert np.array_equal(signs, np.sign(part))
    assert np.array_equal(np.concatenate(reader.probabilities), probabilities)


@pytest.mark.parametrize(("low_bits", "contexts"), [(0, 5), (2, 1), (9, 3)])
def test_magnitudes_measure_as_they_are_coded(low_bits: int, contexts: int) -> None:
    rng = np.random.default_rng(low_bits)
    sizes = 1 + np.abs(np.rint(rng.normal(0, 20, 3000))).astype(np.int64)
    settings = Settings(0, ((int(sizes.max()) - 1) >> low_bits) + 1, low_bits)
    where, meter = rng.integers(0, contexts, 3000), Meter()
    code_sizes(meter, where, settings, sizes)
    assert size_bits(where, settings, sizes) == pytest.approx(meter.total, rel=1e-12)
