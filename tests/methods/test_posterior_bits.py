"""Every method with a posterior of its weights tells the bits that these need."""

from typing import Any

import pytest

import laconic
from laconic.methods import (
    MIRACLE,
    VNQ,
    BayesianCompression,
    ImprovedBayesianCompression,
    MagnitudePruning,
    SparseVD,
)
from laconic.methods.l0 import L0
from laconic.quantize.likelihood import BITS
from laconic.schedules import WarmUp
from laconic.zoo import DigitsMLP
from tests.helpers.method_suite import train

NOW = WarmUp(0.0, 0.0)


@pytest.mark.parametrize(
    "method",
    [
        SparseVD(warm_up=NOW),
        ImprovedBayesianCompression(warm_up=NOW),
        VNQ(warm_up=NOW),
        BayesianCompression(warm_up=NOW),
        L0(gates="weights", warm_up=NOW),
        MIRACLE(bits=4000),
    ],
    ids=lambda m: type(m).__name__,
)
def test_the_bits_by_posterior_are_told(method: Any) -> None:
    small = laconic.convert(train(DigitsMLP(hidden=16), method, steps=2))
    told = small.facts[BITS]
    assert {"fc1.weight", "fc2.weight"} <= set(told)
    for row in told.values():
        assert 0 <= row["low"] <= row["median"] <= row["high"] <= 24 and 0 <= row["width"] <= 24
    assert told["fc1.weight"]["weights"] > 0 and told["fc1.weight"]["mean"] > 0


def test_a_method_without_a_posterior_tells_none() -> None:
    assert BITS not in laconic.convert(train(DigitsMLP(hidden=16), MagnitudePruning(), steps=2)).facts
