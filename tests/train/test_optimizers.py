"""Optimisers as settings: what cannot be."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from laconic.errors import InputError
from laconic.train.optimizers import SGD, Adam


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SGD(momentum=1.0), r"momentum must lie in \[0, 1\), got 1.0"),
        (lambda: SGD(weight_decay=-1.0), "weight_decay must be finite and >= 0, got -1.0"),
        (lambda: Adam(weight_decay=math.inf), "weight_decay must be finite"),
    ],
)
def test_settings_that_cannot_be_are_refused(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()
