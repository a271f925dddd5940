from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laconic.errors import InputError
from laconic.quantize.uniform import bfloat16, nearest, step_for_bits, to_grid
from laconic.records import UniformGrid

# Beyond the largest bfloat16 rounding goes to infinity, below the smallest normal precision goes.
_VALUES = st.floats(min_value=2.0**-100, max_value=2.0**100, width=32)


def _candidates(value: float) -> list[float]:
    """The two bfloat16 around a float32, by walking its upper sixteen bits."""
    high = int(np.float32(value).view(np.uint32)) >> 16
    return [float(np.uint32(bits << 16).view(np.float32)) for bits in (high, high + 1)]


@settings(max_examples=200, deadline=None)
@given(_VALUES)
def test_bfloat16_is_the_nearer_neighbour_and_even_on_a_tie(value: float) -> None:
    low, high = _candidates(value)
    single = float(np.float32(value))
    even = low if (int(np.float32(low).view(np.uint32)) >> 16) % 2 == 0 else high
    below, above = single - low, high - single
    assert bfloat16(value) == (even if below == above else low if below < above else high)


@settings(max_examples=100, deadline=None)
@given(_VALUES)
def test_bfloat16_needs_two_bytes_and_is_its_own_rounding(value: float) -> None:
    rounded = bfloat16(value)
    assert int(np.float32(rounded).view(np.uint32)) & 0xFFFF == 0
    assert bfloat16(rounded) == rounded
    assert abs(rounded - value) <= value * 2**-8
    UniformGrid(rounded)


def test_bfloat16_on_an_exact_tie() -> None:
    # 1 + 2^-8 lies halfway between 1 (even) and 1 + 2^-7; 1 + 3 * 2^-8 between 1 + 2^-7 and 1 + 2^-6 (even)
    assert bfloat16(1 + 2**-8) == 1.0
    assert bfloat16(1 + 3 * 2**-8) == 1 + 2**-6


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), 3.4e38, 1e300, 1e-44, 1e-60])
def test_a_step_that_is_no_positive_number_is_refused(value: float) -> None:
    with pytest.raises(InputError, match="finite and positive"):
        bfloat16(value)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=1, max_size=20), st.floats(0.05, 5))
def test_nearest_is_nearest_by_brute_force(values: list[float], step: float) -> None:
    grid = np.arange(-1100, 1101)
    for value, chosen in zip(values, nearest(values, step).tolist(), strict=True):
        distances = np.abs(value / step - grid)
        assert abs(value / step - chosen) == distances.min()


def test_nearest_takes_halves_to_even_and_keeps_shapes() -> None:
    assert nearest([[0.5, 1.5], [-0.5, 2.5]], 1.0).tolist() == [[0, 2], [0, 2]]
    assert nearest(np.zeros((0, 3)), 1.0).shape == (0, 3)
    assert nearest([1.0], 1.0).dtype == np.int32


def test_nearest_refuses_integers_beyond_32_bits() -> None:
    with pytest.raises(InputError, match=r"step 1e-09 is too small for values up to 3"):
        nearest([1.0, 3.0], 1e-9)


def test_a_tensor_on_a_grid_is_off_by_half_a_step_at_most() -> None:
    values = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    tensor = to_grid("w", values, 0.1)
    assert tensor.grid == UniformGrid(bfloat16(0.1))
    assert float(np.abs(tensor.values() - values).max()) <= bfloat16(0.1) / 2 + 1e-7


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_a_width_in_bits_is_what_the_integers_take(bits: int) -> None:
    values = np.random.default_rng(bits).normal(size=200)
    integers = nearest(values, step_for_bits(values, bits))
    assert int(np.abs(integers).max()) == 2 ** (bits - 1) - 1


def test_a_width_for_zeros_and_widths_that_cannot_be() -> None:
    assert step_for_bits(np.zeros(4), 4) == 1.0
    assert step_for_bits(np.zeros(0), 4) == 1.0
    with pytest.raises(InputError, match="at least 2 bits, got 1"):
        step_for_bits([1.0], 1)
