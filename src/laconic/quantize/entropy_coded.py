r"""Uniform quantisation for an entropy coder at a given rate, without calibration data.

With weights :math:`w`, a step :math:`s` and the code length :math:`L(q)` of integer q, each weight takes

.. math:: q = \arg\min_q \; (w / s - q)^2 + \lambda L(q), \qquad \lambda = \tfrac{\ln 2}{6} .

:math:`\lambda` is the slope of distortion against rate at high rate, where the mean squared error is
:math:`s^2 / 12` and halves its square root with each bit. With L from the integers' own counts this moves the
thresholds between neighbouring integers outwards: the dead zone around zero is wider than a step.

Sources: H. Gish and J. Pierce, Asymptotically efficient quantizing, 1968 (the uniform grid is within 0.255
bit of any code at high rate); G. Sullivan, Efficient scalar quantization of exponential and Laplacian random
variables, 1996 (thresholds).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from laconic.errors import InputError
from laconic.quantize.uniform import bfloat16
from laconic.records import FloatArray, IntArray, IntTensor, UniformGrid

SAMPLE = 1 << 15
"""Weights of a matrix that the step is chosen by."""
_SLOPE = math.log(2) / 6
_ROUNDS = 8
_CLOSE = 0.002  # bits a weight
_FEW_COLUMNS = 64  # below, a step for each row costs too much
_STEP_BITS = 16
_BLOCK = 1 << 18  # weights that are quantised at once, in the cache
_MOST = 2.0**30  # largest integer
_THRESHOLDS = 64  # thresholds in a step: so few that a hardly changed matrix gets the same

Rows = Callable[[int, int], FloatArray]
"""Rows first..last-1 of a matrix as float32 (rows, columns)."""


class StepTooSmall(InputError):
    """Weights in units of their step leave the integers that a tensor holds."""


class Thresholds(NamedTuple):
    """How far thresholds are moved outwards, in steps: that between 0 and 1, and the others.

    Attributes:
        dead: Of the first threshold, at least 0.
        rest: Of all others, at least 0.

    >>> Thresholds(0.1, 0.05).dead
    0.1
    """

    dead: float
    rest: float


class GridChoice(NamedTuple):
    """A grid for one matrix.

    Attributes:
        steps: One step, or one for each row; bfloat16 values where they were searched.
        thresholds: How far thresholds are moved.
        bits: Expected bits a weight, those of the steps included.
        error: Expected root mean square of the errors over that of the weights.

    >>> GridChoice((0.5,), Thresholds(0.0, 0.0), 3.0, 0.1).grid.step
    0.5
    """

    steps: tuple[float, ...]
    thresholds: Thresholds
    bits: float
    error: float

    @property
    def grid(self) -> UniformGrid:
        """The grid of a tensor whose rows are its first dimension."""
        return UniformGrid(self.steps, 0) if len(self.steps) > 1 else UniformGrid(self.steps[0])


def choose_grid(rows: Rows, shape: tuple[int, int], bits: float) -> GridChoice:
    """The grid of one matrix at a rate: one step, or one for each row in proportion to its root mean square.

    Of the two, the one with the smaller squared error at equal rate is taken.

    Args:
        rows: Gives rows of the matrix; all finite, not all zero.
        shape: Rows and columns.
        bits: Entropy-coded bits a weight, above 0.

    Returns:
        Steps and thresholds.

    Raises:
        InputError: Bits that are not above 0, or a matrix of zeros or with NaN or infinite weights.

    >>> w = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    >>> choice = choose_grid(lambda first, last: w[first:last], w.shape, 3.0)
    >>> len(choice.steps), round(choice.bits, 1)
    (1, 3.0)
    """
    if not 0 < bits <= 24:
        raise InputError(f"{bits!r} bits a weight. Cure: a number above 0, at most 24")
    sample, at, scales = _sampled(rows, shape)
    whole = _checked(scales)
    one = _at_rate(sample / whole, bits)
    best = _choice(one, whole)
    extra = _STEP_BITS / shape[1]
    if shape[1] < _FEW_COLUMNS or shape[0] < 2 or extra >= bits / 4:
        return best
    used = np.maximum(scales, whole * 1e-3)  # a row of zeros has a step, too
    scaled = np.asarray(sample / used[at], np.float32)
    each = _at_rate(scaled, bits - extra)
    weighted = float(np.square(used, dtype=np.float64).mean()) / whole**2
    if each.bits + extra + 0.5 * math.log2(each.error * weighted) < one.bits + 0.5 * math.log2(one.error):
        steps = tuple(bfloat16(float(step)) for step in each.step * used)
        return GridChoice(steps, each.thresholds, each.bits + extra, math.sqrt(each.error * weighted))
    return best


def grid_at_high_rate(rows: Rows, shape: tuple[int, int], bits: float) -> GridChoice:
    """The grid of one matrix at a rate that the entropy of a sample does not reach.

    One step; it halves with each bit above a rate that the sample does reach.

    Args:
        rows: Gives rows of the matrix; all finite, not all zero.
        shape: Rows and columns.
        bits: Entropy-coded bits a weight, above 0.

    Returns:
        Step and thresholds.

    Raises:
        InputError: A matrix of zeros, or with NaN or infinite weights.

    >>> w = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    >>> -math.log2(grid_at_high_rate(lambda first, last: w[first:last], w.shape, 20.0).error) > 19
    True
    """
    sample, _, scales = _sampled(rows, shape)
    whole = _checked(scales)
    reached = _at_rate(sample / whole, min(bits, max(0.5, 0.5 * math.log2(sample.size))))
    step = reached.step * 2.0 ** (reached.bits - bits)
    return GridChoice((bfloat16(step * whole),), Thresholds(0.0, 0.0), bits, step / math.sqrt(12))


def grid_of_step(rows: Rows, shape: tuple[int, int], step: float) -> GridChoice:
    """The grid of one matrix with a given step.

    Args:
        rows: Gives rows of the matrix; all finite, not all zero.
        shape: Rows and columns.
        step: In units of the matrix's root mean square, above 0.

    Returns:
        One step, thresholds, and the bits that follow.

    Raises:
        InputError: A step that is not above 0, or a matrix of zeros or with NaN or infinite weights.

    >>> w = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    >>> round(grid_of_step(lambda first, last: w[first:last], w.shape, 0.5).bits, 1)
    3.0
    """
    if not 1e-6 <= step < math.inf:
        raise InputError(f"a step of {step!r} root mean squares. Cure: a number from 0.000001")
    sample, _, scales = _sampled(rows, shape)
    whole = _checked(scales)
    return _choice(_measured(sample / whole, step), whole)


def thresholds_on(rows: Rows, shape: tuple[int, int], grid: UniformGrid) -> Thresholds:
    """The thresholds of one matrix on a given grid, for instance that of an earlier state of the matrix.

    Args:
        rows: Gives rows of the matrix; all finite.
        shape: Rows and columns.
        grid: One step, or one for each row (axis 0).

    Returns:
        How far thresholds are moved.

    >>> w = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    >>> thresholds_on(lambda first, last: w[first:last], w.shape, UniformGrid(2.0)).dead > 0
    True
    """
    sample, at, _ = _sampled(rows, shape)
    steps = np.array(grid.numbers, np.float32)
    scaled = sample / (steps[at] if len(steps) > 1 else steps[0])
    return _thresholds(_levels(np.clip(scaled, -_MOST, _MOST), Thresholds(0.0, 0.0)))


def _checked(scales: FloatArray) -> float:
    """The root mean square of a matrix, from those of its rows."""
    whole = math.sqrt(float(np.square(scales, dtype=np.float64).mean()))
    if not 0 < whole < math.inf:
        raise InputError("all weights are zero, or one is not finite. Cure: keep the tensor as it is")
    return whole


def _choice(found: _Found, whole: float) -> GridChoice:
    return GridChoice((bfloat16(found.step * whole),), found.thresholds, found.bits, math.sqrt(found.error))


def quantize_rows(
    name: str, rows: Rows, shape: tuple[int, ...], grid: UniformGrid, thresholds: Thresholds
) -> IntTensor:
    """A tensor's integers on a grid, some rows at a time.

    Args:
        name: The tensor's name.
        rows: Gives rows of the tensor as a matrix, all further dimensions being columns.
        shape: The tensor's dimensions, two or more.
        grid: One step, or one for each row (axis 0).
        thresholds: How far thresholds are moved outwards.

    Returns:
        The integers on the grid.

    Raises:
        StepTooSmall: For the weights.

    >>> w = np.float32([[0.55, 0.95], [-1.6, 0.0]])
    >>> found = quantize_rows("w", lambda a, b: w[a:b], (2, 2), UniformGrid(1.0), Thresholds(0.1, 0.05))
    >>> found.integers.tolist()
    [[0, 1], [-2, 0]]
    """
    columns = math.prod(shape[1:])
    integers = np.empty((shape[0], columns), np.int32)
    with np.errstate(over="ignore"):  # infinite for a step among denormal numbers, which is refused below
        inverse = (1 / np.array(grid.numbers, np.float64)).astype(np.float32).reshape(-1, 1)
    height = max(1, _BLOCK // max(1, columns))
    for first in range(0, shape[0], height):
        last = min(shape[0], first + height)
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = rows(first, last) * (inverse[first:last] if len(inverse) > 1 else inverse)
        if not float(np.abs(scaled).max(initial=0.0)) < _MOST:
            raise StepTooSmall(
                f"a step of {min(grid.numbers)} is too small for its weights. "
                "Cure: a larger step, fewer bits, or the tensor as it is"
            )
        integers[first:last] = _levels(scaled, thresholds)
    return IntTensor(name, integers.reshape(shape), grid)


class _Found(NamedTuple):
    """The result of a search, for weights of mean square 1: step, thresholds, bits, mean squared error."""

    step: float
    thresholds: Thresholds
    bits: float
    error: float


def _at_rate(sample: FloatArray, bits: float) -> _Found:
    """The step of that entropy: a step twice as long costs about one bit less."""
    step = 2.0 ** (2.05 - bits)
    best = None
    for _ in range(_ROUNDS):
        found = _measured(sample, step)
        if best is None or abs(found.bits - bits) < abs(best.bits - bits):
            best = found
        if abs(found.bits - bits) < _CLOSE:
            break
        step *= 2.0 ** min(4.0, max(-4.0, found.bits - bits))
    return best if best is not None else _measured(sample, step)


def _measured(sample: FloatArray, step: float) -> _Found:
    scaled = sample * np.float32(1 / step)
    thresholds = _thresholds(_levels(scaled, Thresholds(0.0, 0.0)))
    levels = _levels(scaled, thresholds)
    error = float(np.square(scaled - levels, dtype=np.float64).mean()) * step**2
    return _Found(step, thresholds, _entropy(levels), max(error, 1e-30))


def _levels(scaled: FloatArray, thresholds: Thresholds) -> FloatArray:
    """Integers, as float32, of weights in units of their steps."""
    size = np.abs(scaled)
    levels = np.floor(size + np.float32(0.5 - thresholds.rest))
    np.maximum(levels, 1.0, out=levels)
    levels *= size >= np.float32(0.5 + thresholds.dead)
    return np.copysign(levels, scaled, out=levels)


def _thresholds(levels: FloatArray) -> Thresholds:
    """From the code lengths of magnitudes; a magnitude above 0 has a sign, too."""
    sizes = np.minimum(np.abs(levels), 64).astype(np.int64)
    counts = np.bincount(sizes)[:64].astype(np.float64) + 0.5
    if len(counts) < 2:
        return Thresholds(0.0, 0.0)
    lengths = -np.log2(counts / counts.sum())
    lengths[1:] += 1
    rises = np.diff(lengths)
    shares = counts[2:] / counts[2:].sum() if len(counts) > 2 else np.zeros(0)
    rest = float(rises[1:] @ shares)
    moves = (min(0.4, max(0.0, 0.5 * _SLOPE * rise)) for rise in (float(rises[0]), rest))
    dead, rest = (round(_THRESHOLDS * move) / _THRESHOLDS for move in moves)
    return Thresholds(dead, rest)


def _entropy(levels: FloatArray) -> float:
    whole = levels.astype(np.int64).reshape(-1)
    lowest, highest = int(whole.min()), int(whole.max())
    counts = (
        np.bincount(whole - lowest) if highest - lowest < 1 << 20 else np.unique(whole, return_counts=True)[1]
    )
    shares = counts[counts > 0] / whole.size
    return float(-(shares @ np.log2(shares)))


def _sampled(rows: Rows, shape: tuple[int, int]) -> tuple[FloatArray, IntArray, FloatArray]:
    """Weights at equal distances, the rows they stand in, and the root mean square of every row."""
    stride = max(1, shape[0] * shape[1] // SAMPLE) | 1
    height, offset = max(1, _BLOCK // shape[1]), 0
    picked, where, scales = [], [], []
    for first in range(0, shape[0], height):
        block = rows(first, min(shape[0], first + height))
        scales.append(np.sqrt(np.einsum("ij,ij->i", block, block) / shape[1]))
        index = np.arange(offset, block.size, stride)
        offset = (offset - block.size) % stride
        picked.append(block.reshape(-1)[index])
        where.append((first + index // shape[1]).astype(np.int32))
    return np.concatenate(picked), np.concatenate(where), np.concatenate(scales).astype(np.float32)
