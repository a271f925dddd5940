"""The settings of the mixing model that take the fewest bits for one matrix. No part of the format."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from laconic.pack.codecs.compiled import mixing
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


MIXED_IN_PYTHON = 1 << 14
"""The most entries that are measured without compiled code, which takes up to three seconds for these."""


def is_mixable(levels: Levels, shape: tuple[int, ...]) -> bool:
    """Whether the mixing model is allowed for this matrix, likely to pay, and not too slow."""
    most = MAX_MIXED if mixing() is not None else MIXED_IN_PYTHON
    return len(shape) > 1 and levels.size <= most and int(np.abs(levels).max()) >> MOST_EXPONENT + 1 == 0


def unmixed_note(shapes: Iterable[tuple[int, ...]]) -> list[str]:
    """A note where compiled code is missing and a file is longer for it: how many tensors, and the cure."""
    if mixing() is not None:
        return []
    sizes = [math.prod(shape) for shape in shapes if len(shape) > 1]
    large = sum(MIXED_IN_PYTHON < size <= MAX_MIXED for size in sizes)
    if not large:
        return []
    note = (
        f"{large} weight{'s' * (large > 1)} of more than {MIXED_IN_PYTHON} entries may take 1 to 11 % more "
        "bytes: laconic was installed without its compiled code, and Python is too slow for the mixing model "
        "there. Cure: a wheel of laconic, or a C compiler when it is installed"
    )
    return [note]


def worth_mixing(mixed: float, other: float) -> bool:
    """Whether the mixing model saves enough bits for the time that it takes.

    >>> worth_mixing(99, 100), worth_mixing(990_000, 1_000_000)
    (True, False)
    """
    return mixed < other * (1.0 if other <= FEW_BITS else 1.0 - LEAST_SAVING)


def best_mix(levels: Levels, shape: tuple[int, ...], background: int, trail: Trail) -> tuple[float, Mix, int]:
    """The best geometry row by row, then the other order with it: (bits, settings, geometry).

    Where the kernel's geometry (or none) row by row takes more than FEW_BITS it alone is measured, for speed.
    """
    options, hint = geometries(shape, trail.rows), trail.hint(levels.shape[1])
    rows, columns = Mix(background), Mix(background, by_columns=True)
    kernel = int(options[1] != options[0])
    least, geometry = _bits(levels, rows, options[kernel], hint), kernel
    if least > FEW_BITS:
        return least, rows, geometry
    others = [k for k, option in enumerate(options) if option not in options[:k] and k != kernel]
    least, geometry = min([(least, geometry), *((_bits(levels, rows, options[k], hint), k) for k in others)])
    other = _bits(levels, columns, options[geometry], hint)
    return (other, columns, geometry) if other < least else (least, rows, geometry)


def _bits(levels: Levels, mix: Mix, geometry: Geometry, hint: Flags | None) -> float:
    meter = Meter()
    code_mixed(meter, (levels.shape[0], levels.shape[1]), mix, geometry, hint, levels)
    return meter.total
