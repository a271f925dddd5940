"""Warm-up: a factor that rises from 0 to 1."""

from __future__ import annotations

import pytest

from laconic.errors import InputError
from laconic.schedules import WarmUp


def test_a_warm_up_without_length_is_a_step():
    assert [WarmUp(3, 3).factor(t) for t in (2.9, 3)] == [0.0, 1.0] and WarmUp().factor(0) == 1.0


@pytest.mark.parametrize("span", [(-1, 2), (3, 2), (0, float("inf"))])
def test_what_is_no_warm_up(span):
    with pytest.raises(InputError, match="start <= end"):
        WarmUp(*span)
