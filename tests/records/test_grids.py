"""Grids per channel: values by hand, channels that stay, integers that leave their grid, refusals."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from laconic.errors import InputError
from laconic.records import Codebook, Grid, IntTensor, RawTensor, UniformGrid

Q = np.array([[[1, -2], [0, 3]], [[5, 0], [-1, 2]]], np.int32)
STEPS = (0.5, float(np.float32(0.1)))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_steps_multiply_along_their_axis(axis: int) -> None:
    values = UniformGrid(STEPS, axis).dequantize(Q)
    for channel, step in enumerate(STEPS):
        own = np.take(Q, channel, axis).astype(np.float32) * np.float32(step)
        assert np.array_equal(np.take(values, channel, axis), own)
    assert values.dtype == np.float32


@pytest.mark.parametrize("axis", [0, 1])
def test_each_channel_looks_up_in_its_own_codebook(axis: int) -> None:
    books = ((-1.0, 1.0), (0.0, 2.0, 4.0))
    q = np.array([[0, 1], [1, 1]], np.int32)
    values = Codebook(books, axis).dequantize(q)
    expected = [[books[(i, j)[axis]][q[i, j]] for j in range(2)] for i in range(2)]
    assert values.tolist() == expected


@pytest.mark.parametrize("grid", [UniformGrid(STEPS, 1), Codebook(((0.0, 1.0, 2.0), (0.0, 5.0, 7.0)), 1)])
@pytest.mark.parametrize("axis", [0, 1])
def test_taking_keeps_the_values_that_stay(grid: Grid, axis: int) -> None:
    tensor = IntTensor("w", np.array([[0, 1], [2, 0], [1, 1]], np.int32), grid)
    index = np.array([1, 0])
    assert np.array_equal(tensor.take(axis, index).values(), np.take(tensor.values(), index, axis))


def test_zero_is_known_where_all_channels_have_it_at_one_index() -> None:
    assert UniformGrid(STEPS, 0).zero == 0
    assert Codebook(((-1.0, 0.0), (-2.0, 0.0, 1.0)), 0).zero == 1
    assert Codebook(((0.0, 1.0), (-2.0, 0.0)), 0).zero is None
    tensor = IntTensor("w", np.array([[0, 1], [0, 1]], np.int32), Codebook(((0.0, 1.0), (-2.0, 0.0)), 0))
    assert tensor.nonzeros() == 2


def test_only_a_product_that_overflows_is_a_problem() -> None:
    """The large step stands beside a small integer."""
    grid = UniformGrid((2.0**120, 1.0), 0)
    assert grid.problem(np.array([[1], [2**20]], np.int32), 1, 2**20) is None
    assert "float32" in str(grid.problem(np.array([[2**20], [1]], np.int32), 1, 2**20))


def test_an_index_may_leave_only_the_longer_codebook() -> None:
    grid = Codebook(((0.0, 1.0), (0.0, 1.0, 2.0)), 0)
    assert grid.problem(np.array([[1], [2]], np.int32), 1, 2) is None
    assert "2..3 levels" in str(grid.problem(np.array([[2], [1]], np.int32), 1, 2))


@pytest.mark.parametrize(
    ("step", "axis", "said"),
    [
        ((0.5, -1.0), 0, "channel 1 must be a positive float32"),
        ((0.5, 0.1), 0, "channel 1 must be a positive float32"),
        ((0.5, 1.0), None, "axis is None"),
        (0.5, 0, "axis is 0"),
        ((0.5,), -1, "axis is -1"),
    ],
)
def test_bad_steps_are_refused(step: float | tuple[float, ...], axis: int | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        UniformGrid(step, axis)


def test_another_number_of_channels_is_refused() -> None:
    with pytest.raises(InputError, match="2 channels, axis 1 of the tensor has 3"):
        UniformGrid(STEPS, 1).dequantize(np.zeros((2, 3), np.int32))
    with pytest.raises(InputError, match="along axis 1, the tensor has 1 dimensions"):
        UniformGrid(STEPS, 1).dequantize(np.zeros(2, np.int32))


def test_records_are_frozen_and_say_what_they_hold() -> None:
    grid = UniformGrid(0.5)
    with pytest.raises(FrozenInstanceError):
        grid.step = 1.0  # type: ignore[misc]
    assert repr(grid) == "UniformGrid(step=0.5, axis=None)"
    assert UniformGrid(0.5) == grid != UniformGrid(0.25)
    one, two = (RawTensor("w", np.ones(2)) for _ in range(2))
    assert one == one and one != two
