"""Optimisers and schedules as settings: their factors by hand, and what cannot be."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from laconic.errors import InputError
from laconic.train.optimizers import SGD, Adam, LinearDecay


def test_the_learning_rate_is_flat_then_linear() -> None:
    quarter = LinearDecay(0.25).factor
    assert [quarter(p) for p in (0.0, 0.2, 0.25, 0.625, 1.0)] == [1.0, 1.0, 1.0, 0.5, 0.0]
    assert [LinearDecay(1.0).factor(p) for p in (0.0, 0.99)] == [1.0, 1.0]
    assert LinearDecay(0.0).factor(0.5) == 0.5


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: LinearDecay(1.5), "0 <= flat <= 1"),
        (lambda: LinearDecay(warmup=1.0), "0 <= warmup < 1"),
        (lambda: SGD(momentum=1.0), r"momentum must lie in \[0, 1\), got 1.0"),
        (lambda: SGD(weight_decay=-1.0), "weight_decay must be finite and >= 0, got -1.0"),
        (lambda: Adam(weight_decay=math.inf), "weight_decay must be finite"),
    ],
)
def test_settings_that_cannot_be_are_refused(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()
