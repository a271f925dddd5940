from __future__ import annotations

import numpy as np
import pytest

from laconic.errors import InputError
from laconic.pack import coded_bytes
from laconic.quantize.rate_distortion import RateDistortion, _choose, _Weights, quantize
from laconic.quantize.rate_model import rate_bits
from laconic.quantize.uniform import nearest
from laconic.records import IntArray, IntTensor, UniformGrid, WeightStats

STEP = 0.25


def _stats(seed: int, shape: tuple[int, ...] = (24, 30), scale: float = 0.4) -> WeightStats:
    generator = np.random.default_rng(seed)
    mean = (generator.laplace(size=shape) * scale).astype(np.float32)
    variance = np.exp(generator.normal(-3, 0.7, size=shape)).astype(np.float32)
    return WeightStats("w", mean, variance)


def _all(stats: WeightStats) -> np.ndarray:
    return np.ones(stats.mean.shape, dtype=bool)


def _size(integers: IntArray) -> int:
    return coded_bytes(IntTensor("w", integers, UniformGrid(STEP)))


@pytest.mark.parametrize("shape", [(24, 30), (5, 4, 3, 3), (17,)])
def test_at_price_zero_it_is_plain_rounding(shape: tuple[int, ...]) -> None:
    stats = _stats(0, shape)
    keep = np.random.default_rng(1).random(shape) < 0.7
    got = quantize(stats, keep, STEP, RateDistortion(0.0))
    assert np.array_equal(got, np.where(keep, nearest(stats.mean, STEP), 0))
    assert got.dtype == np.int32
    assert got.flags["C_CONTIGUOUS"]


def test_weights_that_are_not_kept_are_zero() -> None:
    stats = _stats(2)
    keep = np.random.default_rng(2).random(stats.mean.shape) < 0.3
    assert not quantize(stats, keep, STEP, RateDistortion(0.1))[~keep].any()
    assert not quantize(stats, np.zeros_like(keep), STEP, RateDistortion(0.1)).any()


@pytest.mark.parametrize("price", [0.02, 0.2, 1.0, 3.0])
def test_each_choice_is_the_best_of_its_candidates_under_frozen_statistics(price: float) -> None:
    """One alternation against every candidate, enumerated weight by weight with its own formulas."""
    stats = _stats(3, (6, 7))
    before = np.clip(nearest(stats.mean, STEP), -5, 5)
    where = np.nonzero(np.ones_like(before, dtype=bool))
    means = stats.mean[where].astype(np.float64)
    precision = 1 / stats.variance[where].astype(np.float64)
    got = _choose(_Weights(means, precision, np.rint(means / STEP), *where), STEP, price, before)

    rows, columns = before.shape
    nonzero = before != 0
    counts = {q: int((before == q).sum()) for q in range(-10, 11)}
    half = max(abs(q) for q in counts if q and counts[q])
    total = sum(counts[q] + 0.1 for q in range(-half, half + 1) if q) + 0.1
    for k, (i, j) in enumerate(zip(*where, strict=True)):
        odds = (nonzero[i].sum() + 0.3) / columns * (nonzero[:, j].sum() + 0.3) / rows / nonzero.mean()
        odds = min(max(odds, 1e-6), 0.98)

        def cost(q: int, k: int = k, odds: float = odds) -> float:
            distortion = (means[k] - q * STEP) ** 2 * precision[k] / 2
            rate = -np.log(1 - odds) if q == 0 else -np.log(odds) - np.log((counts[q] + 0.1) / total)
            return float(distortion + price * rate)

        closest = int(np.clip(np.rint(means[k] / STEP), -half, half))
        candidates = {0, closest, closest - int(np.sign(closest))}
        assert cost(int(got[k])) == pytest.approx(min(cost(q) for q in candidates), rel=1e-12)


def test_the_estimate_is_near_the_coders_bytes() -> None:
    for price in (0.0, 0.4, 1.5):
        stats = _stats(6, (120, 200))
        integers = quantize(stats, _all(stats), STEP, RateDistortion(price))
        assert rate_bits(integers) / 8 == pytest.approx(_size(integers), rel=0.05)


def test_a_rising_price_costs_fewer_bytes_and_more_distortion() -> None:
    stats = _stats(5, (40, 60))
    sizes, distortions = [], []
    for price in (0.0, 0.1, 0.4, 1.5, 6.0):
        integers = quantize(stats, _all(stats), STEP, RateDistortion(price))
        sizes.append(_size(integers))
        distortions.append(float(((stats.mean - STEP * integers) ** 2 / stats.variance).sum()))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.8 * sizes[0]
    assert distortions == sorted(distortions)


def test_a_price_above_the_gain_of_every_weight_leaves_zeros() -> None:
    stats = _stats(6, scale=0.05)
    assert quantize(stats, _all(stats), STEP, RateDistortion(0.0)).any()
    assert not quantize(stats, _all(stats), STEP, RateDistortion(1e6)).any()


def test_sure_weights_move_less_than_unsure_ones() -> None:
    """Where the posterior is narrow rounding stays plain; where it is wide a weight falls to zero."""
    mean = np.random.default_rng(7).normal(0.0, 0.5, size=(30, 40)).astype(np.float32)
    variance = np.full(mean.shape, 1e-6, np.float32)
    variance[:, 20:] = 1.0
    got = quantize(WeightStats("w", mean, variance), np.ones(mean.shape, bool), STEP, RateDistortion(1.0))
    assert np.array_equal(got[:, :20], nearest(mean, STEP)[:, :20])
    assert np.count_nonzero(got[:, 20:]) < 0.1 * np.count_nonzero(nearest(mean, STEP)[:, 20:])


def test_bad_settings_and_shapes_are_refused() -> None:
    stats = _stats(8)
    with pytest.raises(InputError, match="price must be >= 0"):
        RateDistortion(-0.1)
    with pytest.raises(InputError, match="iterations >= 1"):
        RateDistortion(0.1, 0)
    with pytest.raises(InputError, match="w: .* share a shape"):
        quantize(stats, np.ones((2, 2), bool), STEP, RateDistortion())
    with pytest.raises(InputError, match="step be > 0, got 0"):
        quantize(stats, _all(stats), 0.0, RateDistortion())
