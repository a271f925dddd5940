"""Levels by likelihood against brute force and SciPy; the bits of a weight against a simulated channel."""

import numpy as np
import pytest
from scipy.stats import norm

from laconic.errors import InputError
from laconic.quantize.codebook import nearest_level
from laconic.quantize.likelihood import (
    NATS,
    bits_by_layer,
    bits_of_weights,
    lost_nats,
    most_likely,
    normal_log_likelihood,
    width_for,
)
from laconic.quantize.uniform import step_for_bits
from laconic.records import WeightStats

RNG = np.random.default_rng(5)
BOOK = (-0.31, -0.1, 0.0, 0.07, 0.4)


def drawn(count: int, log_var: tuple[float, float] = (-8.0, -2.0)) -> WeightStats:
    means = RNG.normal(0, 0.2, count).astype(np.float32)
    return WeightStats("w", means, np.exp(RNG.uniform(*log_var, count)).astype(np.float32))


def test_log_likelihoods_are_scipys_log_densities() -> None:
    stats = drawn(50)
    likelihood = normal_log_likelihood(stats)
    for level in BOOK:
        wanted = norm.logpdf(level, stats.mean.astype(float), np.sqrt(stats.variance.astype(float)))
        assert np.allclose(likelihood(level), wanted)


def test_a_normal_posterior_takes_the_nearest_level_whatever_its_variance() -> None:
    stats = drawn(2000)
    assert np.array_equal(most_likely(normal_log_likelihood(stats), BOOK), nearest_level(stats.mean, BOOK))


def test_the_loss_is_the_difference_of_log_densities() -> None:
    stats = drawn(50)
    likelihood, values = normal_log_likelihood(stats), 0.25
    at_mode = -0.5 * np.log(2 * np.pi * stats.variance.astype(float))
    assert np.allclose(lost_nats(stats.mean, 1 / stats.variance, values), at_mode - likelihood(values))


def test_priced_levels_are_the_best_under_the_frequencies_that_they_have() -> None:
    """After the turns no weight would gain by another level, by brute force."""
    stats, price = drawn(3000), 0.7
    likelihood = normal_log_likelihood(stats)
    chosen = most_likely(likelihood, BOOK, price=price, iterations=100)
    shares = np.bincount(chosen, minlength=len(BOOK)) / chosen.size
    scores = np.stack(
        [likelihood(c) + price * np.log(max(s, 1e-30)) for c, s in zip(BOOK, shares, strict=True)]
    )
    assert np.array_equal(chosen, scores.argmax(0))

    def entropy(indices):
        p = np.bincount(indices, minlength=len(BOOK)) / indices.size
        return -(p[p > 0] * np.log(p[p > 0])).sum()

    free = most_likely(likelihood, BOOK)
    assert entropy(chosen) < entropy(free)
    assert len(np.unique(free)) == len(BOOK)


def test_removed_weights_do_not_count_in_the_frequencies() -> None:
    stats = drawn(500)
    keep = RNG.random(500) < 0.3
    part = WeightStats("w", stats.mean[keep], stats.variance[keep])
    alone = most_likely(normal_log_likelihood(part), BOOK, price=1.0)
    assert np.array_equal(most_likely(normal_log_likelihood(stats), BOOK, price=1.0, keep=keep)[keep], alone)


def test_the_bits_of_a_weight_are_the_information_of_a_gaussian_channel() -> None:
    """By simulation: the mutual information of w ~ N(0, s^2) and w + noise, by densities of draws."""
    s, sigma, count = 0.3, 0.05, 100_000
    w = RNG.normal(0, s, count)
    seen = w + RNG.normal(0, sigma, count)
    information = np.mean(norm.logpdf(seen, w, sigma) - norm.logpdf(seen, 0, np.hypot(s, sigma))) / np.log(2)
    stats = WeightStats("w", np.full(2, s, np.float32), np.full(2, sigma**2, np.float32))
    assert bits_of_weights(stats)[0] == pytest.approx(information, abs=0.01)


def test_the_bits_count_levels_that_are_told_apart() -> None:
    """Four times the spread is two bits less, and a posterior as wide as the prior has half a bit."""
    means = np.array([1.0, -1.0], np.float32)

    def bits(std: float) -> float:
        return float(bits_of_weights(WeightStats("w", means, np.full(2, std**2, np.float32)))[0])

    assert bits(1e-4) - bits(4e-4) == pytest.approx(2.0, abs=1e-5)
    assert bits(1.0) == pytest.approx(0.5)
    assert bits(0.0) == 24.0 and bits(1e6) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("log_var", [(-12.0, -6.0), (-7.0, -6.0), (-5.5, -5.0)])
def test_a_width_is_the_narrowest_that_loses_no_more(log_var: tuple[float, float]) -> None:
    stats = drawn(400, log_var)

    def lost(bits: int) -> float:
        step = step_for_bits(stats.mean, bits)
        stored = np.rint(stats.mean.astype(float) / step) * step
        return float(np.mean((stored - stats.mean) ** 2 / (2 * stats.variance)))

    width = width_for(stats)
    assert width >= 3 and lost(width) <= NATS < min(lost(bits) for bits in range(2, width))
    assert width_for(stats, nats=0.001) > width
    assert width_for(stats, nats=1e9) == 0


def test_a_layer_without_weights_needs_no_bits() -> None:
    stats = {"w": drawn(3)}
    row = bits_by_layer(stats, {"w": np.zeros(3, bool)})["w"]
    assert (row.weights, row.mean, row.median, row.width) == (0, 0.0, 0.0, 0)


def test_layers_we_are_surer_of_get_more_bits() -> None:
    means = RNG.normal(0, 0.2, 200).astype(np.float32)
    stats = {
        n: WeightStats(n, means, np.full(200, v, np.float32)) for n, v in (("sure", 1e-6), ("unsure", 1e-3))
    }
    rows = bits_by_layer(stats)
    assert rows["sure"].width - rows["unsure"].width == 5  # a thousandth of the variance: log2(31.6)
    assert rows["sure"].low <= rows["sure"].mean <= rows["sure"].high


def test_what_cannot_be_is_refused() -> None:
    likelihood = normal_log_likelihood(drawn(2))
    with pytest.raises(InputError, match=r"rising list, got \[0.2, 0.2\]"):
        most_likely(likelihood, (0.2, 0.2))
    with pytest.raises(InputError, match="price must be >= 0 and iterations >= 1, got -1"):
        most_likely(likelihood, BOOK, price=-1)
    with pytest.raises(InputError, match="must be finite and > 0, got 0"):
        width_for(drawn(2), nats=0.0)
