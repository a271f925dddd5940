"""The import contracts of pyproject.toml hold, and each is able to see a breach."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

BREACHES = [
    ("torch-wall", "runtime/__init__.py", "import torch"),
    ("torch-wall", "records/__init__.py", "from laconic.bayes.layers import reparameterisation"),
    ("rooms-apart", "sparsify/selection/threshold.py", "import laconic.quantize.uniform"),
    ("rooms-apart", "pack/__init__.py", "import laconic.sparsify.selection.threshold"),
    ("structure-below", "structure/plan.py", "import laconic.sparsify.scores"),
    ("structure-below", "structure/shrinking.py", "import laconic.quantize.uniform"),
    ("structure-below", "networks/policy.py", "import laconic.bayes.objective"),
    ("cost-alone", "cost/counting.py", "from laconic.pack.graph import ops"),
    ("cost-alone", "cost/clock.py", "import torch"),
    ("estimators-alone", "estimators/kernels.py", "import laconic.bayes"),
    ("tasks-alone", "tasks/regression.py", "import laconic.methods"),
    ("points-without-posteriors", "methods/magnitude.py", "from laconic.bayes.prepare import posteriors_of"),
    ("posteriors-priors", "bayes/priors/normal.py", "import laconic.bayes.posteriors.gaussian"),
    ("kl-dispatch", "bayes/kl/dispatch.py", "import laconic.bayes.priors.normal"),
    ("data-at-the-edge", "train/fit.py", "import laconic.data"),
    ("data-at-the-edge", "methods/sparse_vd.py", "import laconic.zoo.lenet5"),
    ("no-cycles", "errors.py", "import laconic.records"),
]


def lint(folder: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    """Check the package in ``folder/src`` against the contracts in ``folder/pyproject.toml``."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"]
    for contract in contracts:
        command += ["--contract", contract]
    env = {**os.environ, "PYTHONPATH": str(folder / "src")}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_the_package_keeps_its_contracts() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("contract", "file", "line"), BREACHES)
def test_a_contract_sees_a_breach(contract: str, file: str, line: str, tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    broken = tmp_path / "src" / "laconic" / file
    broken.write_text(f"{broken.read_text(encoding='utf-8')}\n{line}\n", encoding="utf-8")
    done = lint(tmp_path, contract)
    assert done.returncode == 1, done.stdout
    assert "BROKEN" in done.stdout
