"""Draws inside a grid: their frequencies against the normal distribution's mass of each cell."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from laconic.quantize.redraw import redraw
from laconic.records import Codebook, IntTensor, UniformGrid
from laconic.records.grids import Grid

COUNT = 40_000


def _frequencies(grid: Grid, chosen: int, spread: float, levels: range) -> np.ndarray:
    """How often each level follows from one chosen level."""
    integers = np.full(COUNT, chosen, np.int32)
    drawn = redraw(IntTensor("w", integers, grid), spread, spread, np.random.default_rng(3)).integers
    return np.array([(drawn == level).mean() for level in levels])


@pytest.mark.parametrize("chosen", [0, 1, 3])
def test_a_uniform_grid_is_drawn_by_the_mass_of_its_cells(chosen: int) -> None:
    got = _frequencies(UniformGrid(0.5), chosen, 0.4, range(-4, 8))
    edges = np.arange(-4.5, 8.0) * 0.5
    wanted = np.diff(norm.cdf(edges, 0.5 * chosen, 0.4))
    assert np.abs(got - wanted).max() < 6 * 0.5 / COUNT**0.5  # six standard errors at most


def test_a_codebook_is_drawn_by_the_mass_of_its_cells() -> None:
    levels = (-1.0, 0.0, 0.25, 2.0)
    got = _frequencies(Codebook(levels), 2, 0.7, range(4))
    wanted = np.diff(norm.cdf([-np.inf, -0.5, 0.125, 1.125, np.inf], 0.25, 0.7))
    assert np.abs(got - wanted).max() < 6 * 0.5 / COUNT**0.5


def test_channels_keep_their_own_steps_and_books() -> None:
    rng = np.random.default_rng(0)
    integers = np.tile(np.int32([[-3, 0, 3]]), (2, 1)).repeat(2000, 1)
    drawn = redraw(IntTensor("w", integers, UniformGrid((0.0625, 10.0), axis=0)), 0.5, 0.5, rng)
    assert drawn.integers[0].std() > 8  # half a unit is eight steps
    assert np.array_equal(drawn.integers[1], integers[1])
    books = Codebook(((-0.125, 0.0, 0.125), (-10.0, 0.0, 10.0)), axis=1)
    flat = IntTensor("w", np.ones((4000, 2), np.int32), books)
    found = redraw(flat, 0.5, 0.5, rng).integers
    assert set(found[:, 0].tolist()) == {0, 1, 2} and (found[:, 1] == 1).all()
    assert found.dtype == np.int32 and found.flags.c_contiguous


def test_weights_without_a_spread_stay() -> None:
    tensor = IntTensor("w", np.int32([0, 0, 5, -5]), UniformGrid(0.125))
    many = [redraw(tensor, 0.3, 0.0, np.random.default_rng(s)).integers for s in range(50)]
    assert all((q[:2] == 0).all() for q in many)
    assert any((q[2:] != tensor.integers[2:]).any() for q in many)
    assert np.array_equal(redraw(tensor, 0.0, 0.0, np.random.default_rng(0)).integers, tensor.integers)


def test_factors_and_the_share_of_random_zeros() -> None:
    tensor = IntTensor("w", np.tile(np.int32([[4], [0]]), (1, 4000)), UniformGrid(2.0**-10))
    rng = np.random.default_rng(0)
    drawn = redraw(tensor, 0.1, 0.2, rng, factors=[[2.0, 0.5], []], share=0.25).integers * 2.0**-10
    assert drawn[0].std() == pytest.approx(0.2, rel=0.1)
    moved = drawn[1] != 0
    assert moved.mean() == pytest.approx(0.25, abs=0.05)
    assert drawn[1][moved].std() == pytest.approx(0.1, rel=0.1)
