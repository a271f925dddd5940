"""The step for a rate, thresholds by rate, and steps of rows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from laconic.errors import InputError
from laconic.quantize.entropy_coded import (
    Rows,
    Thresholds,
    choose_grid,
    grid_of_step,
    quantize_rows,
    thresholds_on,
)
from laconic.records import FloatArray, IntArray, UniformGrid

RNG = np.random.default_rng(0)
LAPLACE = RNG.laplace(size=(200, 300)).astype(np.float32)


def rows_of(matrix: FloatArray) -> Rows:
    return lambda first, last: matrix[first:last]


def entropy(integers: IntArray) -> float:
    shares = np.unique(integers, return_counts=True)[1] / integers.size
    return float(-(shares * np.log2(shares)).sum())


@pytest.mark.parametrize("bits", [0.3, 1.0, 2.5, 4.0, 9.0])
def test_the_entropy_is_what_was_asked_for(bits: float) -> None:
    choice = choose_grid(rows_of(LAPLACE), LAPLACE.shape, bits)
    found = quantize_rows("w", rows_of(LAPLACE), LAPLACE.shape, choice.grid, choice.thresholds)
    assert entropy(found.integers) == pytest.approx(bits, abs=0.02 + 0.01 * bits)
    error = np.sqrt(np.square(found.values() - LAPLACE).mean() / np.square(LAPLACE).mean())
    assert error == pytest.approx(choice.error, rel=0.03)


def test_thresholds_by_rate_beat_rounding_at_equal_rate() -> None:
    """At about one bit the dead zone of Laplacian weights saves several percent of the squared error."""
    choice = choose_grid(rows_of(LAPLACE), LAPLACE.shape, 1.0)
    assert min(choice.thresholds) > 0
    best = math.inf
    for step in np.geomspace(0.5, 4, 200):
        integers = np.rint(LAPLACE / step)
        if entropy(integers) <= 1.0:
            best = min(best, float(np.square(integers * step - LAPLACE).mean()))
    found = quantize_rows("w", rows_of(LAPLACE), LAPLACE.shape, choice.grid, choice.thresholds)
    assert np.square(found.values() - LAPLACE).mean() < 0.97 * best


def test_a_step_for_each_row_where_it_costs_less() -> None:
    """Rows of one magnitude each: with steps of their own the signs are all there is to say."""
    signs = np.sign(RNG.normal(size=(64, 1024))).astype(np.float32)
    matrix = signs * np.exp(RNG.normal(size=(64, 1))).astype(np.float32)
    choice = choose_grid(rows_of(matrix), matrix.shape, 1.02)
    assert isinstance(choice.grid, UniformGrid)
    assert choice.grid.axis == 0
    assert len(choice.steps) == 64
    same = RNG.normal(size=(64, 1024)).astype(np.float32)
    assert choose_grid(rows_of(same), same.shape, 3.0).grid.axis is None


def test_thresholds_are_those_of_the_definition() -> None:
    w = np.float32([[0.59, -0.61, 1.54, 1.56, -2.54, 0.0]])
    found = quantize_rows("w", rows_of(w), w.shape, UniformGrid(1.0), Thresholds(0.1, 0.05))
    assert found.integers.tolist() == [[0, -1, 1, 2, -2, 0]]


def test_a_hardly_changed_matrix_has_the_same_thresholds() -> None:
    choice = choose_grid(rows_of(LAPLACE), LAPLACE.shape, 3.0)
    assert (
        thresholds_on(rows_of(LAPLACE * np.float32(1.0005)), LAPLACE.shape, choice.grid) == choice.thresholds
    )


def test_what_has_no_grid() -> None:
    zeros, wrong = np.zeros((4, 4), np.float32), np.full((4, 4), np.nan, np.float32)
    for matrix in (zeros, wrong, np.float32([[1, np.inf]])):
        for call in (
            lambda m=matrix: choose_grid(rows_of(m), m.shape, 3.0),
            lambda m=matrix: grid_of_step(rows_of(m), m.shape, 1.0),
        ):
            with pytest.raises(InputError, match="zero, or one is not finite"):
                call()
    for bits in (0.0, -1.0, math.nan, 25.0):
        with pytest.raises(InputError, match="bits a weight"):
            choose_grid(rows_of(LAPLACE), LAPLACE.shape, bits)
    for step in (0.0, math.nan, math.inf):
        with pytest.raises(InputError, match="root mean squares"):
            grid_of_step(rows_of(LAPLACE), LAPLACE.shape, step)
    with pytest.raises(InputError, match="a step of .* is too small"):
        quantize_rows("w", rows_of(LAPLACE), LAPLACE.shape, UniformGrid(2.0**-40), Thresholds(0, 0))
