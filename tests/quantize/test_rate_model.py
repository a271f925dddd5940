from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from laconic.quantize.rate_model import ODDS, level_prices, nonzero_factors, rate_bits
from laconic.quantize.uniform import nearest
from laconic.records import IntArray

STEP = 0.25


def _integers(seed: int, shape: tuple[int, ...] = (24, 30), scale: float = 0.4) -> IntArray:
    return nearest(np.random.default_rng(seed).laplace(size=shape) * scale, STEP)


def test_the_shares_it_counts_are_probabilities() -> None:
    integers = _integers(4)
    prices = level_prices(integers)
    nats, half = prices.nats, prices.half
    assert float(np.exp(-nats).sum()) == pytest.approx(1.0)
    assert half == int(np.abs(integers).max())
    odds = np.clip(np.outer(*nonzero_factors(integers)), *ODDS)
    assert odds.shape == integers.shape
    assert 0 < odds.min() <= odds.max() < 1
    assert float(odds.mean()) == pytest.approx(float((integers != 0).mean()), rel=0.1)


def test_the_bits_of_a_tensor_are_those_of_its_own_statistics() -> None:
    integers = _integers(4, (5, 6))
    nonzero = integers != 0
    bits = 0.0
    for i, j in np.ndindex(*integers.shape):
        odds = (nonzero[i].sum() + 0.3) / 6 * (nonzero[:, j].sum() + 0.3) / 5 / nonzero.mean()
        odds = min(max(odds, 1e-6), 0.98)
        bits -= np.log2(odds if nonzero[i, j] else 1 - odds)
    half = int(np.abs(integers).max())
    counts = np.array([(integers == q).sum() if q else 0 for q in range(-half, half + 1)]) + 0.1
    bits -= sum(np.log2(counts[q + half] / counts.sum()) for q in integers[nonzero])
    assert rate_bits(integers) == pytest.approx(float(bits), rel=1e-12)
    assert rate_bits(np.zeros((3, 4), np.int32)) == rate_bits(np.zeros((), np.int32)) == 0.0


def test_far_levels_cost_what_a_table_of_all_would_say() -> None:
    """The prices are those of the formula, and memory does not grow with the largest level."""
    integers = _integers(4, (5, 6))
    integers[0, 0], integers[4, 5] = 3_000_000, -(2**31)
    tracemalloc.start()
    try:
        prices = level_prices(integers, 1)
        bits = rate_bits(integers)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert prices.half == 2**31 + 1 and np.isfinite(bits)
    whole = np.count_nonzero(integers) + 0.1 * (2 * prices.half + 1)
    for level in (3_000_000, 1, -1, 12_345_678, 0):
        count = np.count_nonzero(integers == level) if level else 0
        assert prices.of(np.array([level]))[0] == pytest.approx(-np.log((count + 0.1) / whole), rel=1e-9)
