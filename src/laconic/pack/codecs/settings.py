"""The settings of one adaptively coded tensor, as stored in the file, and the limits of that codec."""

from __future__ import annotations

from typing import NamedTuple

from laconic.pack.codecs.symbols import ONE

# A file that claims more for an adaptive tensor is refused; writers use the static model beyond.
MAX_ENTRIES = 1 << 22
MAX_LINES = 1 << 16
MAX_MIXED = 1 << 20
"""The most entries of a tensor under the mixing model, whose tables take more memory."""

LINE_STRENGTHS = (0, 12, 40, 150)
PAIR_STRENGTHS = (0, 4, 10, 25)


class Settings(NamedTuple):
    """Base density, magnitudes, background, and the weight of the base in each factor's probability.

    ``density``: see :attr:`base`. ``classes``, ``low_bits``: magnitudes are 1 + (class << low_bits) + low.
    ``background``: the most frequent integer. ``row``, ``column``, ``channel``, ``pixel``,
    ``near``: 0 (factor off) to 3, an index into LINE_STRENGTHS or PAIR_STRENGTHS.
    ``sizes_near``: whether magnitudes have separate counts by the number of non-zero neighbours.
    """

    density: int
    classes: int
    low_bits: int = 0
    background: int = 0
    row: int = 0
    column: int = 0
    channel: int = 0
    pixel: int = 0
    near: int = 0
    sizes_near: bool = False

    @property
    def base(self) -> int:
        """Probability of a non-background cell before anything is known: a 4-bit mantissa and a shift."""
        return max(1, min(ONE - 1, ((16 + (self.density & 15)) << (self.density >> 4)) >> 5))


class Mix(NamedTuple):
    """Settings of a tensor under the mixing model.

    ``background``: the most frequent integer. ``by_columns``: cells are coded column by column.
    """

    background: int = 0
    by_columns: bool = False


def density_code(hits: int, cells: int) -> int:
    """The density whose base probability is nearest to ``hits / cells``."""
    target = hits * ONE / max(1, cells)
    return min(range(256), key=lambda d: (abs(Settings(density=d, classes=0).base - target), d))
