"""The checks that CONTRIBUTING.md shows run as they stand, on the package that it speaks of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from laconic.testing import check_method

CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"
IMPORTS = """
import torch

from laconic.bayes.posteriors import Gaussian
from ordinal_laplace.laplace import Laplace
from ordinal_laplace.laplace_vi import LaplaceVI
from ordinal_laplace.ordinal import OrdinalRegression
"""


def test_the_checks_run(own: Path) -> None:
    (block,) = re.findall(r"```python\n(from laconic\.testing .*?)```", CONTRIBUTING.read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(IMPORTS + block, names)
    tests = {name: run for name, run in names.items() if name.startswith("test_") and callable(run)}
    assert set(tests) == {"test_the_prior", "test_the_task", "test_the_method"}
    for run in tests.values():
        run()


METHOD_IMPORTS = """
import copy
from dataclasses import dataclass

from laconic.methods import Method, finish, quantize_rest
"""


def test_the_smallest_method_keeps_a_methods_promises() -> None:
    (block,) = re.findall(
        r"```python\n(@dataclass\(frozen=True\)\nclass RoundToNearest.*?)```",
        CONTRIBUTING.read_text(),
        re.DOTALL,
    )
    names: dict[str, Any] = {}
    exec(METHOD_IMPORTS + block, names)
    small = check_method(names["RoundToNearest"](bits=4))
    assert set(small.tensors) == {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}
    assert max(abs(t.integers).max() for t in small.tensors.values()) == 7  # type: ignore[attr-defined]
    assert small.facts["bits"] == 4
