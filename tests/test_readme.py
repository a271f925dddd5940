"""The README's examples run as they stand and do what the README says; its methods are the registry's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from laconic.methods.registry import find_method, method_names
from laconic.runtime import load

README = Path(__file__).parents[1] / "README.md"


PRETRAINED = """
import torch
from torch import nn

from laconic.data import TensorLoader, load, split
from laconic.train.fit import FitConfig, Hooks, fit

torch.set_num_threads(1)
torch.manual_seed(0)
parts = split(load("digits"), validation=200, seed=0)
train = TensorLoader(parts.train, 64)
validate = TensorLoader(parts.validation, 200, shuffle=False)
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
fit(model, train, FitConfig(20, lr=3e-3), Hooks.plain(model))
inputs = next(iter(validate))[0].numpy()
samples = [x for x, _ in validate]
"""


def examples(name: str) -> str:
    """All Python blocks from the one that a comment names to the next heading."""
    found = re.search(rf"<!-- example: {name} -->\n(.*?)\n## ", README.read_text(), re.DOTALL)
    if found is None:
        raise LookupError(f"README.md has lost its example {name}")
    return "\n".join(re.findall(r"```python\n(.*?)```", found.group(1), re.DOTALL))


def example() -> str:
    """The example that needs nothing but the library."""
    return examples("digits")


def test_example_is_short() -> None:
    assert len([line for line in example().splitlines() if line.strip()]) <= 25


def test_example_runs(tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text("import torch\ntorch.set_num_threads(1)\n" + example())
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    found = re.search(r"(\d+) -> (\d+) bytes, (\d+)x smaller", done.stdout)
    assert found is not None, done.stdout
    assert int(found.group(3)) >= 20
    assert (tmp_path / "digits.lac").stat().st_size == int(found.group(2))


def test_the_first_code_of_the_readme_is_a_recipe_of_six_lines() -> None:
    first = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[0]
    lines = [line for line in first.splitlines() if line.strip()]
    assert len(lines) <= 6
    assert examples("pretrained").startswith(first)
    assert all(f"laconic.{verb}" in first for verb in ("compress_trained(", "save(", "runtime.load("))


def test_the_pretrained_recipes_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(PRETRAINED + examples("pretrained"), names)
    score, model, small = names["score"], names["model"], names["small"]
    assert names["outputs"].shape == (200, 10)
    whole = 4 * sum(p.numel() for p in model.parameters())
    first, pruned, int8, quantised = (
        tmp_path / f"{name}.lac" for name in ("small", "pruned", "int8", "quantised")
    )
    assert 6 * first.stat().st_size < whole
    assert 12 * pruned.stat().st_size < whole
    assert 12 * int8.stat().st_size < whole
    assert 4 * quantised.stat().st_size < whole
    assert score(small.module).metric <= score(model).metric + 0.5 + 1e-9
    for path in (int8, quantised):
        assert load(path, precision="int8")(names["inputs"][:64]).shape == (64, 10)


def test_the_table_of_methods_is_the_registrys() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| `(\w+)` \| (.*?) \|", README.read_text(), re.MULTILINE)
    found = {name: (kind, paper) for name, kind, paper in rows}
    wanted = {n: (find_method(n).kind.__name__, find_method(n).paper) for n in method_names()}
    assert found == wanted
