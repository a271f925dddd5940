"""Zeros and signs of a matrix that is known: all probabilities at once, for encoding and for measuring.

The probabilities of a batch follow from counts over the batches before it. Those counts depend on the matrix
and the geometry alone, so they are computed once; each choice of strengths is a few array operations.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from laconic.pack.codecs.contexts import (
    NEGATIVE,
    POSITIVE,
    UNKNOWN,
    ZERO,
    States,
    combine,
    diagonals,
    line_contexts,
    near_context,
    neighbours,
    probabilities,
    sign_context,
    strengths,
)
from laconic.pack.codecs.layouts import Geometry, Index
from laconic.pack.codecs.lines import Before, counts_before, kt_probabilities
from laconic.pack.codecs.settings import Settings
from laconic.pack.codecs.symbols import Coder, Counts
from laconic.records import IntArray

_NEVER = np.iinfo(np.int32).max
_NEAR = 4


class Signs(NamedTuple):
    """Signs of the cells that are not background, in order: batch, probability of plus, whether plus."""

    batch: Index
    probability: Counts
    positive: IntArray


class KnownCells:
    """The cells of a matrix's active rows and columns ``column_at``; ``part`` holds their values."""

    def __init__(self, column_at: Index, part: Counts) -> None:
        self._column_at = column_at
        self._rows, columns = part.shape
        self._i, self._j, self._batch = diagonals(self._rows, columns)
        values = part[self._i, self._j]
        self.flags: IntArray = (values != 0).astype(np.int32)
        self._hit = np.flatnonzero(self.flags)
        self._positive: IntArray = (values[self._hit] > 0).astype(np.int32)
        # two columns behind the kept ones: outside of the image (never known), and columns of background
        self._state = np.full((self._rows, columns + 2), UNKNOWN, np.int8)
        self._state[:, :columns] = np.where(part == 0, ZERO, np.where(part > 0, POSITIVE, NEGATIVE))
        self._state[:, columns + 1] = ZERO
        self._when = np.full((self._rows, columns + 2), _NEVER, np.int32)
        self._when[self._i, self._j] = self._batch
        self._when[:, columns + 1] = -1
        self._before: dict[tuple[int, Geometry], Before] = {}
        self._signs: dict[Geometry, Signs] = {}

    def probabilities(self, settings: Settings, geometry: Geometry) -> Counts:
        """The probability of each cell, in coding order, not to be background."""
        said = [
            probabilities(*self._counts(factor, geometry), strength, settings.base)
            for factor, strength in enumerate(strengths(settings))
            if strength
        ]
        return combine(settings.base, said, len(self.flags))

    def signs(self, geometry: Geometry) -> Signs:
        """Signs of the cells that are not background; they do not depend on the settings."""
        if geometry not in self._signs:
            batch = self._batch[self._hit]
            left, above = neighbours(self._column_at, geometry)[:2]
            i, j = self._i[self._hit], self._j[self._hit]
            contexts = sign_context(self._seen(i, left[j], batch), self._seen(i, above[j], batch))
            before = counts_before(contexts, batch, self._positive)
            self._signs[geometry] = Signs(batch, kt_probabilities(*before), self._positive)
        return self._signs[geometry]

    def code(self, coder: Coder, settings: Settings, geometry: Geometry) -> None:
        """Encode all batches in order: the flags of each, then the signs of its non-zero cells."""
        signs = self.signs(geometry)
        order = np.argsort(np.concatenate([2 * self._batch, 2 * signs.batch + 1]), kind="stable")
        probability = np.concatenate([self.probabilities(settings, geometry), signs.probability])
        coder.flags(probability[order], np.concatenate([self.flags, signs.positive])[order])

    def _counts(self, factor: int, geometry: Geometry) -> Before:
        """Counts of a factor's contexts; those of rows and columns do not depend on the geometry."""
        key = (factor, Geometry() if factor < 2 else geometry)
        if key not in self._before:
            self._before[key] = counts_before(self._contexts(factor, geometry), self._batch, self.flags)
        return self._before[key]

    def _contexts(self, factor: int, geometry: Geometry) -> Index:
        if factor < _NEAR:
            row, column = line_contexts(self._rows, self._column_at, geometry)[factor]
            return row[self._i] + column[self._j]
        around = neighbours(self._column_at, geometry)
        return near_context(*(self._seen(self._i, place[self._j], self._batch) for place in around))

    def _seen(self, i: Index, j: Index, batch: Index) -> States:
        """States of cells at the start of a batch: unknown unless an earlier batch has coded them."""
        return np.where(self._when[i, j] < batch, self._state[i, j], np.int8(UNKNOWN))
