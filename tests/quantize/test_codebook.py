from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laconic.errors import InputError
from laconic.quantize.codebook import even_levels, nearest_level, on_levels
from laconic.records import Codebook, UniformGrid

_BOOKS = st.lists(st.integers(-40, 40), min_size=1, max_size=6, unique=True).map(sorted)


@settings(max_examples=100, deadline=None)
@given(_BOOKS, st.lists(st.floats(-60, 60), min_size=1, max_size=20))
def test_the_nearest_level_by_brute_force(levels: list[int], values: list[float]) -> None:
    for value, index in zip(values, nearest_level(values, levels).tolist(), strict=True):
        distances = [abs(value - level) for level in levels]
        assert distances[index] == min(distances)


def test_ties_go_to_the_lower_level() -> None:
    assert nearest_level([-0.5, 0.5, 1.5], [-1.0, 0.0, 1.0, 2.0]).tolist() == [0, 1, 2]


def test_indices_keep_the_shape() -> None:
    found = nearest_level(np.zeros((2, 3, 1)), [-1.0, 1.0])
    assert found.shape == (2, 3, 1)
    assert found.dtype == np.int32


@pytest.mark.parametrize("levels", [[], [1.0, 1.0], [2.0, 1.0], [[0.0, 1.0]]])
def test_levels_that_do_not_rise_are_refused(levels: list[float]) -> None:
    with pytest.raises(InputError, match="rising"):
        nearest_level([0.0], levels)


def test_a_ternary_book_is_a_uniform_grid() -> None:
    tensor = on_levels("w", np.array([[0, 1], [2, 2]], np.int32), (-0.2, 0.0, 0.2))
    assert tensor.grid == UniformGrid(float(np.float32(0.2)))
    assert tensor.integers.tolist() == [[-1, 0], [1, 1]]


@pytest.mark.parametrize(
    ("levels", "uniform"),
    [
        ((0.0, 0.3), True),
        ((-0.5, -0.25, 0.0, 0.25, 0.5), True),
        ((-0.3, -0.1, 0.1, 0.3), False),  # no zero: no multiple of a step
        ((-0.3, 0.0, 0.1), False),  # two gaps
        ((0.7,), False),
    ],
)
def test_levels_decode_to_themselves_whatever_grid_they_take(
    levels: tuple[float, ...], uniform: bool
) -> None:
    indices = np.arange(len(levels), dtype=np.int32)
    tensor = on_levels("w", indices, levels)
    assert isinstance(tensor.grid, UniformGrid if uniform else Codebook)
    assert np.array_equal(tensor.values(), np.asarray(levels, np.float32))


@settings(max_examples=100, deadline=None)
@given(st.floats(2.0**-10, 8, width=32), st.integers(2, 9))
def test_even_levels_survive_the_grid_bit_for_bit(half_width: float, count: int) -> None:
    levels = tuple(even_levels(count, half_width).tolist())
    indices = np.arange(count, dtype=np.int32)
    values = on_levels("w", indices, levels).values()
    assert np.array_equal(values, even_levels(count, half_width))
    assert values[0] == np.float32(-half_width)
    assert values[-1] == np.float32(half_width)
    assert count % 2 == 0 or values[count // 2] == 0


def test_one_level_is_no_codebook() -> None:
    with pytest.raises(InputError, match="at least 2 levels, got 1"):
        even_levels(1, 1.0)
