"""The search of the price, on functions whose answer is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from laconic.methods.layerwise.search import Found, Limit, find_price


@dataclass(frozen=True)
class Made:
    """A trial of a network whose divergence and bytes follow a law."""

    price: float

    @property
    def divergence(self) -> float:
        return 3.0 * self.price**0.8

    @property
    def bytes(self) -> float:
        return 100 + 1000 / (1 + 40 * self.price**0.4)


def _search(limit: Limit[Made], start: float, most: int = 14) -> Found[Made]:
    return find_price(Made, start, limit, most)


@pytest.mark.parametrize("start", [1e-9, 1e-3, 10.0])
def test_the_highest_price_within_a_divergence_is_found(start: float) -> None:
    found = _search(Limit(lambda made: math.log(made.divergence / 0.01), slack=0.03), start)
    assert found.met and 0.0097 <= found.best.divergence <= 0.01
    assert len(found.trials) <= 12


@pytest.mark.parametrize("start", [1e-9, 1e-3, 10.0])
def test_the_lowest_price_within_a_length_is_found(start: float) -> None:
    found = _search(Limit(lambda made: math.log(made.bytes / 400), rises=False, slack=0.01), start)
    assert found.met and 395 <= found.best.bytes <= 400


def test_a_limit_that_only_says_yes_or_no_is_bisected() -> None:
    found = _search(Limit(lambda made: 1.0 if made.divergence > 0.01 else -1.0, guided=False), 1.0, 20)
    assert found.met and 0.0095 <= found.best.divergence <= 0.01


@pytest.mark.parametrize("allowed", ["divergence", "bytes"])
def test_prices_at_which_all_weights_are_zero_are_left_behind(allowed: str) -> None:
    """Above a price of 1e-6 the network is the same, so that equal trials do not mean the end."""

    def excess(made: Made) -> float:
        below = Made(min(made.price, 1e-6))
        return math.log(below.divergence / 1e-5) if allowed == "divergence" else math.log(below.bytes / 1000)

    found = _search(Limit(excess, rises=allowed == "divergence", slack=0.03), 1.0)
    assert found.met and -0.03 <= excess(found.best) <= 0


def test_what_cannot_be_met_comes_as_near_as_it_can() -> None:
    found = _search(Limit(lambda made: math.log(made.bytes / 50), rises=False), 1e-3, 6)
    assert not found.met
    assert found.best.bytes == min(made.bytes for made in found.trials)


def test_of_trials_that_are_as_far_the_gentlest_is_taken() -> None:
    """A metric that no price keeps says the same of all."""
    found = _search(Limit(lambda made: 1.0, guided=False), 1e-3, 6)
    assert not found.met and found.best.price == min(made.price for made in found.trials)


def test_one_trial_is_enough_where_it_must_be() -> None:
    found = _search(Limit(lambda made: math.log(made.divergence / 0.01)), 1e-3, 1)
    assert len(found.trials) == 1 and not found.met
    assert _search(Limit(lambda made: -math.inf), 1e-3, 3).met


@pytest.mark.parametrize("most", [2, 4, 8])
def test_a_search_that_goes_on_stays_above_a_trial_that_kept_the_limit(most: int) -> None:
    """Refined networks are smaller at one divergence: prices below one that was met without are a waste."""
    known, tried = Made(1e-4), []

    def attempt(price: float) -> Made:
        tried.append(price)
        return Made(price)

    def excess(made: Made) -> float:
        return -math.inf if made is known else math.log(made.price / 1.3e-4)

    limit = Limit(excess, slack=0.03)
    found = find_price(attempt, 2 * known.price, limit, most, [known], math.log(2.0))
    assert tried[0] == pytest.approx(2e-4) and min(tried) > known.price and len(tried) <= most
    assert found.met and found.trials[0] is known
    assert most < 8 or found.best.price > 1.2e-4


def test_the_least_step_is_kept_where_no_bracket_is_known() -> None:
    tried: list[float] = []

    def attempt(price: float) -> Made:
        tried.append(price)
        return Made(price)

    limit = Limit(lambda made: math.log(made.price / 1e-3), slack=0.001)
    find_price(attempt, 9e-4, limit, 2, grow=math.log(1.5))
    assert tried == [pytest.approx(9e-4), pytest.approx(1.35e-3)]
