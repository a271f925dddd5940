"""Bits of a layer from its posterior's variance, against a loop that compares each round-off."""

import math

import numpy as np
import pytest

from laconic.quantize.posterior_bits import PosteriorBits, posterior_bits
from laconic.records import WeightStats


def stats(mean, variance):
    return WeightStats("w", np.float32(mean), np.broadcast_to(np.float32(variance), np.shape(mean)).copy())


def by_loop(variances):
    """The mean count of significand bits whose unit round-off is above twice the variance, rounded up."""
    counts = [sum(0.5 * 2.0 ** (1 - t) > 2 * v for t in range(1, 24)) for v in variances]
    return math.ceil(sum(counts) / len(counts))


@pytest.mark.parametrize("seed", range(3))
def test_significands_are_those_of_a_loop(seed):
    rng = np.random.default_rng(seed)
    variance = np.exp(rng.uniform(-20, 1, 40)).astype(np.float32)
    s = WeightStats("w", rng.normal(size=40).astype(np.float32), variance)
    assert posterior_bits({"w": s}).significand["w"] == by_loop(variance.astype(float))


def test_each_halving_of_the_variance_is_worth_a_bit():
    bits = [posterior_bits({"w": stats([1.0], 2.0**-k)}).significand["w"] for k in (2, 3, 4, 10, 40)]
    assert bits == [0, 1, 2, 8, 23]


def test_the_exponent_reaches_the_largest_weight_of_the_network():
    for largest, bits in ((1.0, 1), (2.0, 2), (0.5, 2), (8.0, 3), (2.0**-7, 4), (0.0, 1)):
        small = {"a": stats([largest], 0.1), "b": stats([0.0, -0.0], 0.1)}
        assert posterior_bits(small).exponent == bits


def test_weights_that_go_do_not_count():
    s = WeightStats("w", np.float32([0.5, 100.0]), np.float32([2.0**-4, 2.0**-20]))
    alone = posterior_bits({"w": s}, {"w": np.array([True, False])})
    assert alone == PosteriorBits(2, {"w": 2}) and alone.total == {"w": 5}
    assert posterior_bits({"w": s}, {"w": np.zeros(2, bool)}).significand == {"w": 0}
