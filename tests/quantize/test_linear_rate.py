"""The price of real multiples: exact at integers, straight between them, and its slope is the next price."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from laconic.quantize.linear_rate import MARGIN, linear_rate
from laconic.quantize.rate_model import count_rate
from laconic.quantize.uniform import nearest
from laconic.records import IntArray


def _integers(shape: tuple[int, ...] = (6, 5)) -> IntArray:
    return nearest(np.random.default_rng(3).laplace(size=shape), 0.8)


def _brute(integers: IntArray, chosen: IntArray) -> float:
    """Code length of ``chosen`` under the statistics of ``integers``, number by number, in nats."""
    model = count_rate(integers.reshape(len(integers), -1), margin=MARGIN)
    total = 0.0
    for (row, column), level in np.ndenumerate(chosen.reshape(len(chosen), -1)):
        odds = model.odds[row, column]
        total -= math.log(1 - odds) if level == 0 else math.log(odds)
        total += 0.0 if level == 0 else float(model.levels.of(level))
    return total


@pytest.mark.parametrize("shape", [(6, 5), (3, 2, 2, 2)])
def test_at_integers_it_is_their_code_length(shape: tuple[int, ...]) -> None:
    integers = _integers(shape)
    rate = linear_rate(integers)
    for chosen in (integers, np.zeros_like(integers), -integers):
        found = float(rate.nats(torch.from_numpy(chosen).float()))
        assert found == pytest.approx(_brute(integers, chosen), rel=1e-5)


def test_between_two_integers_it_is_the_expected_length_of_rounding_at_random() -> None:
    integers = _integers()
    rate = linear_rate(integers)
    below = torch.from_numpy(integers).float()
    found = float(rate.nats(below + 0.25))
    expected = 0.75 * _brute(integers, integers) + 0.25 * _brute(integers, integers + 1)
    assert found == pytest.approx(expected, rel=1e-5)


def test_its_gradient_is_that_of_finite_differences_and_the_price_of_the_next_level() -> None:
    integers = _integers()
    rate = linear_rate(integers)
    u = torch.from_numpy(integers).float() + 0.4
    u.requires_grad_()
    (slope,) = torch.autograd.grad(rate.nats(u), u)
    for at in ((0, 0), (2, 3), (5, 1)):
        higher, up = u.detach().clone(), integers.copy()
        higher[at] += 0.125
        up[at] += 1
        difference = float(rate.nats(higher) - rate.nats(u.detach())) / 0.125
        assert float(slope[at]) == pytest.approx(difference, abs=1e-3)
        assert float(slope[at]) == pytest.approx(_brute(integers, up) - _brute(integers, integers), abs=1e-4)


def test_beyond_the_last_level_nothing_pulls() -> None:
    rate = linear_rate(_integers())
    u = torch.full((6, 5), rate.half + 1.5, requires_grad=True)
    (slope,) = torch.autograd.grad(rate.nats(u), u)
    assert not slope.any()
