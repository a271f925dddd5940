"""Each example runs as it stands, on real data: the file's metric is the module's, the drop is respected.

``LACONIC_CAMVID`` (a folder or a zip) and ``LACONIC_TEXT`` (a text file) say where CamVid and a text lie;
without them the same two examples run on digits and on Python's documentation.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from laconic.train.evaluate import evaluate

EXAMPLES = Path(__file__).parents[2] / "examples"
# Not good enough: about the metric of a network that learnt the targets' frequencies or deviation alone.
# A negative number: the metric must be below.
NAMES = {
    "digits_classification": -90.0,
    "digits_multilabel": -40.0,
    "diabetes_regression": -77.0,
    "segmentation": 30.0,
    "sequence_labelling": -18.0,
    "language_modelling": -40.0,
}
GIVEN = {"segmentation": "LACONIC_CAMVID", "language_modelling": "LACONIC_TEXT"}


def run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict[str, Any]:
    """The names that a script ends with, run in ``folder`` with these arguments."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    try:
        return runpy.run_path(str(EXAMPLES / f"{name}.py"))
    finally:
        torch.set_rng_state(state)
        torch.set_num_threads(threads)


def check(found: dict[str, Any], folder: Path) -> float:
    """The file's metric, after the example's promises were checked."""
    task, target, small, model = (found[n] for n in ("task", "target", "small", "model"))
    (path,) = folder.glob("*.lac")
    decoded = found["verify"](str(path), found["test"], task)
    assert decoded == pytest.approx(evaluate(small.module, found["test"], task).metric, rel=1e-6)
    before, after = (evaluate(net, found["validate"], task).metric for net in (model, small.module))
    assert task.metric.drop(before, after) <= target.max_drop + 1e-9
    assert after == pytest.approx(small.facts["validation_metric"], rel=1e-6)
    original = 4 * sum(p.numel() for p in model.parameters())
    assert 3 * path.stat().st_size < original
    return decoded


@pytest.mark.parametrize("name", NAMES)
def test_an_example(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(name, tmp_path, monkeypatch)
    decoded = check(found, tmp_path)
    blind = NAMES[name]
    assert decoded > blind if blind > 0 else decoded < -blind
    assert found["task"].metric.higher_is_better == (blind > 0)


@pytest.mark.parametrize("name", GIVEN)
def test_an_example_on_data_that_is_given(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = os.environ.get(GIVEN[name])
    if not given:
        pytest.skip(f"{GIVEN[name]} says where the data lie, and is not set")
    check(run(name, tmp_path, monkeypatch, given), tmp_path)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_short(path: Path) -> None:
    assert path.stem == "parts" or len(path.read_text().splitlines()) < 40
