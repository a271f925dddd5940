"""Ranges from histograms: against brute force on the entries themselves."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest

from laconic.errors import InputError
from laconic.runtime import LeastError, LeastOutputError, MinMax, Percentile
from laconic.runtime.calibration.range_choice import BINS, Histogram, range_of

Doubles = npt.NDArray[np.float64]
RNG = np.random.default_rng(0)
SAMPLES = {
    "outliers on both sides": np.append(RNG.normal(size=20_000), [40.0, -25.0]),
    "one outlier below": np.append(RNG.normal(size=20_000), -90.0),
    "heavy tails": RNG.standard_t(2, size=20_000),
    "heavy tails behind a relu": np.maximum(RNG.standard_t(2, size=20_000), 0.0),
    "below zero": -np.abs(RNG.standard_t(3, size=20_000)),
    "far from zero": 5.0 + RNG.normal(size=20_000),
    "uniform": RNG.random(20_000),
}


def seen_of(values: Doubles) -> Histogram:
    return Histogram(float(values.min()), float(values.max()), np.histogram(values, BINS)[0])


def error(values: Doubles, bounds: tuple[float, float], power: float) -> float:
    """What int8 does to the values: rounded, saturated and real again."""
    entry = range_of(0, *bounds)
    q = np.clip(np.rint(values / entry.scale) + entry.zero_point, -128, 127)
    return float(np.mean(np.abs(entry.scale * (q - entry.zero_point) - values) ** power))


@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize("name", SAMPLES)
def test_least_error_is_that_of_brute_force(name: str, power: float) -> None:
    values = SAMPLES[name]
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    shares = np.linspace(0.02, 1.0, 33)
    pairs = product(shares * low if low else [0.0], shares * high if high else [0.0])
    least = min(error(values, pair, power) for pair in pairs)
    assert error(values, LeastError(power).bounds(seen_of(values)), power) <= 1.03 * least


def test_outliers_are_cut_off_and_more_so_by_a_smaller_power() -> None:
    seen = seen_of(SAMPLES["heavy tails"])
    widths = [high - low for low, high in (LeastError(p).bounds(seen) for p in (4.0, 2.0, 1.0, 0.75))]
    assert seen.high - seen.low >= widths[0] > widths[1] > widths[2] > widths[3]


def test_each_side_is_cut_by_itself() -> None:
    low, high = LeastError(1.0).bounds(seen_of(SAMPLES["one outlier below"]))
    assert -5.0 < low < -2.5
    assert 2.5 < high < 5.0


def test_a_range_does_not_depend_on_the_unit() -> None:
    values = SAMPLES["heavy tails"]
    low, high = LeastError(2.0).bounds(seen_of(values))
    for unit in (2.0**-100, 2.0**100):
        assert LeastError(2.0).bounds(seen_of(unit * values)) == pytest.approx((unit * low, unit * high))


def test_a_value_that_is_constant() -> None:
    for value in (0.0, 3.0, -2.0):
        counts = np.zeros(BINS, np.int64)
        counts[0] = 7
        assert LeastError().bounds(Histogram(value, value, counts)) == (value, value)


def test_extremes_and_quantiles() -> None:
    values = SAMPLES["outliers on both sides"]
    seen = seen_of(values)
    assert MinMax().bounds(seen) == (values.min(), values.max())
    low, high = Percentile(99.0).bounds(seen)
    assert low == pytest.approx(np.quantile(values, 0.005), abs=0.05)
    assert high == pytest.approx(np.quantile(values, 0.995), abs=0.05)


def test_refusals() -> None:
    with pytest.raises(InputError, match=r"percent must be in 50..100"):
        Percentile(0.1)
    for power in (0.0, -1.0, float("nan"), 17.0):
        with pytest.raises(InputError, match=r"power must be above 0 and at most 16, got .* Cure"):
            LeastError(power)
    with pytest.raises(InputError, match="needs a candidate. Cure"):
        LeastOutputError(())
    with pytest.raises(InputError, match="examples must be a positive whole number, got 0. Cure"):
        LeastOutputError(examples=0)
