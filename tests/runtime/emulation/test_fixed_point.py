"""Multiplier and shift against the C sources in Python integers, and against exact rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laconic.errors import InputError
from laconic.runtime.emulation import fixed_point as ours
from tests.helpers import gemmlowp

EDGES = sorted(
    {
        sign * base + offset
        for base in (0, 1, 2, 3, 5, 2**15, 2**30, 2**31 - 2)
        for sign in (1, -1)
        for offset in (-1, 0, 1)
    }
    | {-(2**31), 2**31 - 1}
)
INT32 = st.one_of(st.sampled_from(EDGES), st.integers(-(2**31), 2**31 - 1))
REALS = st.one_of(
    st.floats(1e-12, 200.0),
    st.sampled_from([0.5, 1.0, 2.0, 1 / 3, 0.999999999999, 1.0 - 2**-33, 2**-31, 2**-32, 2**-40, 100.0]),
)


def column(*values: int) -> ours.Ints:
    return np.array(values, dtype=np.int64)


def test_high_mul_on_all_pairs_of_edges() -> None:
    a, b = (grid.ravel() for grid in np.meshgrid(column(*EDGES), column(*EDGES)))
    got = ours.saturating_rounding_doubling_high_mul(a, b)
    assert got.tolist() == [gemmlowp.high_mul(int(x), int(y)) for x, y in zip(a, b, strict=True)]
    assert ours.saturating_rounding_doubling_high_mul(column(-(2**31)), column(-(2**31))) == [2**31 - 1]


def test_high_mul_rounds_the_exact_product_to_the_nearest() -> None:
    """The rational a b / 2^31: never more than half a unit away, and a tie above zero goes up."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(-(2**31), 2**31, 2000), rng.integers(-(2**31), 2**31, 2000)
    got = ours.saturating_rounding_doubling_high_mul(a, b)
    for x, y, z in zip(a.tolist(), b.tolist(), got.tolist(), strict=True):
        assert abs(Fraction(x * y, 2**31) - z) <= Fraction(1, 2)
    assert ours.saturating_rounding_doubling_high_mul(column(2**30), column(1)).tolist() == [1]  # 1/2
    assert ours.saturating_rounding_doubling_high_mul(column(-(2**30)), column(1)).tolist() == [0]  # -1/2


def test_divide_by_pot_rounds_ties_away_from_zero() -> None:
    for exponent in (0, 1, 2, 7, 15, 30, 31):
        got = ours.rounding_divide_by_pot(column(*EDGES), np.asarray(exponent, np.int64))
        for x, y in zip(EDGES, got.tolist(), strict=True):
            exact = Fraction(x, 2**exponent)
            away = int(abs(exact) + Fraction(1, 2))  # floor of a positive number: half goes up
            assert y == (away if x >= 0 else -away) == gemmlowp.divide_by_pot(x, exponent)


@settings(max_examples=300, deadline=None)
@given(REALS)
def test_a_multiplier_says_its_real_number_to_31_bits(real: float) -> None:
    fixed = ours.quantize_multiplier(real)
    multiplier, shift = int(fixed.multiplier), int(fixed.shift)
    assert (multiplier, shift) == gemmlowp.quantize_multiplier(real)
    if multiplier:
        assert 2**30 <= multiplier < 2**31
        assert abs(Fraction(multiplier) * Fraction(2) ** (shift - 31) / Fraction(real) - 1) <= Fraction(
            1, 2**30
        )
    else:
        assert real < 2**-31


@settings(max_examples=400, deadline=None)
@given(INT32, REALS)
def test_products_equal_the_c_sources(x: int, real: float) -> None:
    """Also where a left shift wraps around in 32 bits."""
    fixed = ours.quantize_multiplier(real)
    pair = int(fixed.multiplier), int(fixed.shift)
    assert int(ours.multiply_double(column(x), fixed)[0]) == gemmlowp.multiply(x, *pair)
    assert int(ours.multiply_single(column(x), fixed)[0]) == gemmlowp.multiply_single(x, *pair)
    if pair[1] <= 7:
        wide = x << 15
        assert int(ours.multiply_wide(column(wide), fixed)[0]) == gemmlowp.multiply_wide(wide, *pair)


def test_one_rounding_is_the_exact_product_rounded_half_up() -> None:
    fixed = ours.quantize_multiplier(0.3)
    real = Fraction(int(fixed.multiplier)) * Fraction(2) ** (int(fixed.shift) - 31)
    for x in range(-300, 300):
        exact = x * real + Fraction(1, 2)
        assert int(ours.multiply_single(column(x), fixed)[0]) == exact.numerator // exact.denominator


def test_two_roundings_differ_from_one_somewhere() -> None:
    fixed, x = ours.quantize_multiplier(0.0123), np.arange(-20000, 20000)
    apart = ours.multiply_double(x, fixed) - ours.multiply_single(x, fixed)
    assert 0 < np.count_nonzero(apart) < 4000
    assert np.abs(apart).max() == 1


def test_a_vector_of_multipliers_is_one_at_a_time() -> None:
    reals = [0.001, 0.7, 3.0, 1e-15, 90.0]
    fixed, x = ours.quantize_multiplier(reals), column(-1000, -1, 0, 7, 1000)
    got = ours.multiply_double(x[:, None], fixed)
    for k, real in enumerate(reals):
        assert got[:, k].tolist() == ours.multiply_double(x, ours.quantize_multiplier(real)).tolist()


def test_wide_products_refuse_what_the_kernels_do_not_hold() -> None:
    with pytest.raises(InputError, match="16-bit layer"):
        ours.multiply_wide(column(1), ours.quantize_multiplier(200.0))
    with pytest.raises(InputError, match="16-bit layer"):
        ours.multiply_wide(column(2**47), ours.quantize_multiplier(0.5))


def test_numbers_that_no_shift_holds_are_refused() -> None:
    for multiply in (ours.multiply_double, ours.multiply_single):
        with pytest.raises(InputError, match="an output's scale is 2.31 times smaller"):
            multiply(column(1), ours.quantize_multiplier(2.0**30))
        assert multiply(column(1), ours.quantize_multiplier(2.0**29)).tolist() == [2**29]


def test_the_oracle_tells_a_wrong_rounding() -> None:
    """A shift that rounds half to even instead of away must not pass for gemmlowp's."""
    assert gemmlowp.divide_by_pot(5, 1) == 3 != round(5 / 2)
    assert gemmlowp.divide_by_pot(-5, 1) == -3
    assert gemmlowp.rounded_mean([1, 2], 2) == 2
    assert gemmlowp.rounded_mean([-1, -2], 2) == -2
    assert gemmlowp.conv_sum([[[1, 2], [3, 4]]], [[[1, 0], [0, -1]]], (0, 0)) == -3
