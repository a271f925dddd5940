"""The devices' arithmetic in plain Python: values by hand, at the places where a wrong rounding differs."""

import pytest

from tests.helpers import gemmlowp as g


@pytest.mark.parametrize(("a", "b", "wanted"), [(7, 2, 3), (-7, 2, -3), (7, -2, -3), (-7, -2, 3)])
def test_c_divides_towards_zero(a, b, wanted):
    assert g.c_divide(a, b) == wanted
    assert {g.c_divide(a, b) for a, b in ((-7, 2), (7, -2))} != {-7 // 2}  # Python's own rounds down


def test_the_high_half_of_a_product():
    assert g.high_mul(2**30, 2**30) == 2**29
    assert g.high_mul(g.INT32_MIN, g.INT32_MIN) == g.INT32_MAX  # the one product that overflows
    assert g.high_mul(2**30, 1) == 1  # a half rounds up
    assert g.high_mul(-(2**30), 1) == 0  # and a negative half rounds up, too: C divides towards zero
    assert g.high_mul(-(2**30) - 1, 1) == -1


@pytest.mark.parametrize(
    ("x", "exponent", "wanted"), [(3, 1, 2), (-3, 1, -2), (5, 2, 1), (6, 2, 2), (-6, 2, -2), (-5, 2, -1)]
)
def test_division_by_a_power_of_two_rounds_halves_away_from_zero(x, exponent, wanted):
    assert g.divide_by_pot(x, exponent) == wanted
    assert g.divide_by_pot(-3, 1) != round(-3 / 2 + 1e-9)  # a half rounded up is another number


def test_multipliers():
    assert g.quantize_multiplier(0.5) == (2**30, 0)
    assert g.quantize_multiplier(1.0) == (2**30, 1)
    assert g.quantize_multiplier(0.0) == (0, 0)
    assert g.quantize_multiplier(1 - 2**-40) == (2**30, 1)  # rounds up to the next power of two
    assert g.multiply(100, *g.quantize_multiplier(0.25)) == 25
    assert g.multiply(2, *g.quantize_multiplier(0.25)) == 1
    assert g.multiply(-2, *g.quantize_multiplier(0.25)) == -1  # twice rounded: away from zero
    assert g.multiply_single(-2, *g.quantize_multiplier(0.25)) == 0  # once rounded: up
    assert g.multiply_wide(100, *g.quantize_multiplier(0.25)) == 25


def test_sums_and_means():
    image, kernel = [[[1, 2], [3, 4]]], [[[1, 10], [100, 1000]]]
    assert g.conv_sum(image, kernel, (0, 0)) == 4321
    assert g.conv_sum(image, kernel, (0, 0), padding=1) == 1000  # outside is zero
    assert g.conv_sum(image, kernel, (0, 0), dilation=2) == 1
    assert g.linear_sum([1, -2], [3, 4]) == -5
    with pytest.raises(ValueError, match="shorter"):
        g.linear_sum([1, 2], [3])
    assert [g.rounded_mean(values, 2) for values in ([1, 2], [-1, -2], [1, 1])] == [2, -2, 1]


def test_additions_are_of_real_numbers():
    assert g.add_int8(10, 20, (0.5, 0.25, 0.5), (0, 0, 0)) == 20  # 5 + 5 at a step of a half
    assert g.add_int8(10, 20, (0.5, 0.25, 0.5), (2, 0, -1)) == 17
