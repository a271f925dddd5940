"""What is no target, training or task is refused in words; a missed target is told from Python, too."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import laconic
from laconic.cli import main
from laconic.errors import InputError
from laconic.methods import MagnitudePruning, Target
from laconic.train.fit import FitConfig

X, Y = torch.eye(4).repeat(8, 1), torch.arange(4).repeat(8)
FIT = FitConfig(epochs=1, lr=1e-6)


def _trained() -> nn.Module:
    net = nn.Linear(4, 4)
    with torch.no_grad():
        net.weight.copy_(5 * torch.eye(4) + 0.1 * torch.arange(16).reshape(4, 4))
        net.bias.zero_()
    return net


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"target": 0.5}, r"target: 0.5 is no Target. Cure: Target\(max_drop=0.5\)"),
        ({"fit": 3}, r"fit: 3 is no FitConfig. Cure: fit=FitConfig"),
        ({"task": nn.CrossEntropyLoss}, r"task: CrossEntropyLoss is a class. Cure: an instance"),
    ],
)
def test_wrong_objects_are_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        laconic.compress(_trained(), [(X, Y)], [(X, Y)], MagnitudePruning(0.5), **given)


@pytest.mark.parametrize("given", [{"max_kl": "0.01nats"}, {"max_bytes": "30kB"}, {"max_drop": True}])
def test_a_target_takes_numbers(given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=rf"{next(iter(given))} must be a number.*Cure: Target\("):
        Target(**given)


@pytest.mark.parametrize(
    ("target", "told"),
    [(Target(max_drop=0.5), "the validation error went from"), (Target(max_bytes=5), "5 were asked for")],
)
def test_a_missed_target_is_told(target: Target, told: str) -> None:
    method = MagnitudePruning(0.95)
    with pytest.warns(UserWarning, match=f"target missed: .*{told}"):
        small = laconic.compress(_trained(), [(X, Y)], [(X, Y)], method, target, fit=FIT)
    assert any(told in note for note in small.facts["notes"])
    assert small.facts["outcome"].startswith("target missed: ") and small.record["outcome"]


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (
            Target(max_drop=100.0, max_bytes=9000),
            r"target met: the file has \d+ bytes of at most 9000; the validation error went .* by 100\.00 %",
        ),
        (Target(), r"no target was set; the validation error went from 0\.00 % to \d+\.\d\d %"),
    ],
)
def test_the_outcome_stands_in_facts_and_record(target: Target, told: str, tmp_path: Path) -> None:
    data = [(X, Y)]
    for out in (None, tmp_path):
        small = laconic.compress(_trained(), data, data, MagnitudePruning(0.5), target, fit=FIT, out=out)
        assert (
            re.fullmatch(told, small.facts["outcome"]) and small.record["outcome"] == small.facts["outcome"]
        )
    written = json.loads((tmp_path / "record.json").read_text())
    assert written["facts"]["outcome"] == small.facts["outcome"]


def test_a_length_without_its_unit_is_no_loss(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compress", "digits-mlp", "--target", "5000"]) == 2
    assert "cannot lose more than 100 points. Cure: 5000B" in capsys.readouterr().err
