"""The pages of ``docs`` run as they stand and do what they say."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import laconic.bayes
from laconic.bayes import DensityPrior, Prior

PAGE = (Path(__file__).parents[1] / "docs" / "priors.md").read_text()
LINE = r"(before|under the prior): ([\d.]+) octaves off, ([\d.]+) % wrong, ([\d.]+) % as powers of two"


def test_the_page_names_every_prior() -> None:
    kinds = [getattr(laconic.bayes, name) for name in laconic.bayes.__all__]
    priors = {k.__name__ for k in kinds if isinstance(k, type) and "improper" in dir(k)}
    named = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert named == priors - {Prior.__name__, DensityPrior.__name__}


def test_the_prior_of_ones_own_draws_weights_to_powers_of_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "powers_of_two"}
    monkeypatch.setitem(sys.modules, "powers_of_two", ModuleType("powers_of_two"))  # dataclasses look it up
    exec("\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)), names)
    said, told = re.findall(LINE, capsys.readouterr().out), re.findall(LINE, PAGE)
    assert len(said) == len(told) == 2
    for got, page in zip(said, told, strict=True):
        assert float(got[1]) == pytest.approx(float(page[1]), abs=0.02)
        assert [float(v) for v in got[2:]] == pytest.approx([float(v) for v in page[2:]], abs=3.0)
    (far, _, rounding), (near, right, still) = ([float(v) for v in row[1:]] for row in said)
    assert near < 0.2 * far
    assert still <= right + 1.5 and still < rounding + 1.0
    for picture in ("prior.png", "path.png"):
        assert (tmp_path / picture).read_bytes()[1:4] == b"PNG"
