"""The kernels' harness on the installed modules: it finds no fault, and detects a wrong product."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from laconic.runtime.kernels import native
from tests.fuzz import kernel_cases

MODULES = {"sparse": native.extension(), "twobit": native.two_bit_extension()}


def outcomes(name: str, make: Any, cases: int) -> Counter[bool]:
    module, unit = MODULES[name], kernel_cases.MAKERS[name][1]
    if module is None:
        pytest.skip("installed without a compiler")
    rng, counts = np.random.default_rng(3), Counter[bool]()
    while counts.total() < cases:
        counts.update(kernel_cases.calls(rng, module, make, unit))
    return counts


@pytest.mark.parametrize("name", MODULES)
def test_calls_are_refused_or_right(name: str) -> None:
    counts = outcomes(name, kernel_cases.MAKERS[name][0], 1500)
    assert counts[True] > 800
    assert counts[False] > 200


@pytest.mark.parametrize("name", MODULES)
def test_a_wrong_product_is_seen(name: str) -> None:
    """An oracle that is off by one replaces a kernel that is."""

    def other(rng: Any) -> kernel_cases.Case:
        case = kernel_cases.MAKERS[name][0](rng)

        def off(product: kernel_cases.Product) -> Any:
            found = case.oracle(product)
            return None if found is None else (found[0] + 1, found[1])

        return replace(case, oracle=off)

    with pytest.raises(RuntimeError, match="NumPy gives"):
        outcomes(name, other, 1500)
