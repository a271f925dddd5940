"""The checks that CONTRIBUTING.md shows run as they stand, on the package that it speaks of."""

from __future__ import annotations

import re
from pathlib import Path

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
