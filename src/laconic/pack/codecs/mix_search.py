"""The settings of the mixing model that take the fewest bits for one matrix. No part of the format."""

from __future__ import annotations

import numpy as np

from laconic.pack.codecs.layouts import Flags, Geometry, Trail, geometries
from laconic.pack.codecs.mixed import MOST_EXPONENT, code_mixed
from laconic.pack.codecs.settings import MAX_MIXED, Mix
from laconic.pack.codecs.sizes import Levels
from laconic.pack.codecs.symbols import Meter

FEW_ENTRIES = 1 << 16
LEAST_SAVING = 0.01
"""Tensors of more than FEW_ENTRIES entries are mixed only where this share of their bits is saved."""


def is_mixable(levels: Levels, shape: tuple[int, ...]) -> bool:
    """Whether the mixing model is allowed for this matrix, and likely to pay."""
    return len(shape) > 1 and levels.size <= MAX_MIXED and int(np.abs(levels).max()) >> MOST_EXPONENT + 1 == 0


def worth_mixing(size: int, mixed: float, other: float) -> bool:
    """Whether the mixing model saves enough; it decodes several times more slowly than the others."""
    return mixed < other * (1.0 if size <= FEW_ENTRIES else 1.0 - LEAST_SAVING)


def best_mix(levels: Levels, shape: tuple[int, ...], background: int, trail: Trail) -> tuple[float, Mix, int]:
    """The best geometry row by row, then the other order with it: (bits, settings, geometry)."""
    options, hint = geometries(shape, trail.rows), trail.hint(levels.shape[1])
    rows, columns = Mix(background), Mix(background, by_columns=True)
    tried = [k for k, option in enumerate(options) if option not in options[:k]]
    least, geometry = min((_bits(levels, rows, options[k], hint), k) for k in tried)
    other = _bits(levels, columns, options[geometry], hint)
    return (other, columns, geometry) if other < least else (least, rows, geometry)


def _bits(levels: Levels, mix: Mix, geometry: Geometry, hint: Flags | None) -> float:
    meter = Meter()
    code_mixed(meter, (levels.shape[0], levels.shape[1]), mix, geometry, hint, levels)
    return meter.total
