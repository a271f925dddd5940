"""The settings of the mixing model that take the fewest bits for one matrix. No part of the format."""

from __future__ import annotations

import numpy as np

from laconic.pack.codecs.layouts import Flags, Geometry, Trail, geometries
from laconic.pack.codecs.mixed import MOST_EXPONENT, code_mixed
from laconic.pack.codecs.settings import MAX_MIXED, Mix
from laconic.pack.codecs.sizes import Levels
from laconic.pack.codecs.symbols import Meter

FEW_BITS = 1 << 18
LEAST_SAVING = 0.05
"""A tensor that takes more than FEW_BITS otherwise is mixed only where this share of them is saved: the model
codes about 5 million weights of a few bits per second, others several times more.
"""


def is_mixable(levels: Levels, shape: tuple[int, ...]) -> bool:
    """Whether the mixing model is allowed for this matrix, and likely to pay."""
    return len(shape) > 1 and levels.size <= MAX_MIXED and int(np.abs(levels).max()) >> MOST_EXPONENT + 1 == 0


def worth_mixing(mixed: float, other: float) -> bool:
    """Whether the mixing model saves enough bits for the time that it takes.

    >>> worth_mixing(99, 100), worth_mixing(990_000, 1_000_000)
    (True, False)
    """
    return mixed < other * (1.0 if other <= FEW_BITS else 1.0 - LEAST_SAVING)


def best_mix(
    levels: Levels, shape: tuple[int, ...], background: int, trail: Trail, other_bits: float = 0.0
) -> tuple[float, Mix, int]:
    """The best geometry row by row, then the other order with it: (bits, settings, geometry).

    ``other_bits``: what another model takes. Above FEW_BITS one setting alone is measured, for speed.
    """
    options, hint = geometries(shape, trail.rows), trail.hint(levels.shape[1])
    rows, columns = Mix(background), Mix(background, by_columns=True)
    tried = [k for k, option in enumerate(options) if option not in options[:k]]
    if other_bits > FEW_BITS:
        kernel = int(options[1] != options[0])
        return _bits(levels, rows, options[kernel], hint), rows, kernel
    least, geometry = min((_bits(levels, rows, options[k], hint), k) for k in tried)
    other = _bits(levels, columns, options[geometry], hint)
    return (other, columns, geometry) if other < least else (least, rows, geometry)


def _bits(levels: Levels, mix: Mix, geometry: Geometry, hint: Flags | None) -> float:
    meter = Meter()
    code_mixed(meter, (levels.shape[0], levels.shape[1]), mix, geometry, hint, levels)
    return meter.total
