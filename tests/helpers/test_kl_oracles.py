"""The oracles themselves: right on a known case, and failing on a wrong one."""

import numpy as np

from tests.helpers.kl_oracles import monte_carlo_kl, worst_difference


def log_standard_normal(w):
    return -0.5 * np.log(2 * np.pi) - 0.5 * w**2


def test_monte_carlo_finds_the_closed_form():
    got = monte_carlo_kl(0.7, -2.0, log_standard_normal)
    assert abs(got - 0.5 * (np.exp(-2.0) + 0.49 - 1 + 2.0)) < 1e-4


def test_monte_carlo_tells_a_wrong_value_apart():
    assert abs(monte_carlo_kl(0.7, -2.0, log_standard_normal) - 0.5 * (np.exp(-2.0) - 0.49 + 1)) > 0.1


def test_worst_difference_ignores_a_constant_and_nothing_else():
    oracle = np.array([1.0, 2.0, 3.0])
    assert worst_difference(oracle + 5.0, oracle, constant_at=0) < 1e-12
    assert worst_difference(oracle * 1.1, oracle, constant_at=0) > 0.19
