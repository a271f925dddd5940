"""What is told of a grid's allowances: met, missed, or not looked at."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

import laconic
from laconic.methods import GridChoice, NoCompression, Score, Target
from laconic.methods.common.allowances import outcome
from laconic.methods.contract import Judge

BEFORE = Score(metric=2.0, nll=0.10, terms=1000)


def _judge(target: Target = Target(), *, measures: bool = True) -> Judge:  # noqa: B008 - frozen
    return Judge(
        lambda network: BEFORE, BEFORE, target, divergence=(lambda a, b: 0.003) if measures else None
    )


@pytest.mark.parametrize(
    ("choice", "after", "kl", "near", "met", "said"),
    [
        (
            GridChoice(max_kl=0.01),
            BEFORE,
            0.003,
            True,
            True,
            "grid: max_kl=0.01 met: the predictions are 0.003 ",
        ),
        (GridChoice(max_kl=0.001), BEFORE, 0.003, False, False, "finer grid.steps, or grid.max_kl=0.0032"),
        (GridChoice(max_kl=0.001), BEFORE, 0.003, True, False, "the weights alone are within. Cure: wider"),
        (
            GridChoice(max_drop=0.5),
            Score(2.4, 0.1, 1),
            None,
            True,
            True,
            "max_drop=0.5 met: .* 2.00 % to 2.40 %",
        ),
        (
            GridChoice(max_drop=0.3),
            Score(2.4, 0.1, 1),
            None,
            False,
            False,
            "of 20 grids. .* higher grid.max_drop",
        ),
        (GridChoice(max_nll_ratio=1.1), Score(2.0, 0.2, 1), None, False, False, "max_nll_ratio=1.1 missed"),
        (GridChoice(), Score(9.0, 0.9, 1), None, False, True, "^$"),
    ],
)
def test_allowances_that_were_set_are_met_or_missed(
    choice: GridChoice, after: Score, kl: float | None, near: bool, met: bool, said: str
) -> None:
    found = outcome(choice, _judge(), BEFORE, after, kl, near, 20)
    assert found[0] is met
    assert re.search(said, found[1])


def _converted(choice: GridChoice, judge: Judge) -> dict[str, object]:
    torch.manual_seed(0)
    net = laconic.prepare(nn.Linear(4, 2), NoCompression(grid=choice), torch.zeros(1, 4), data_size=10)
    return dict(laconic.convert(net, judge).facts)


def test_a_result_tells_of_its_allowances() -> None:
    missed = _converted(GridChoice(max_kl=0.001), _judge())
    assert str(missed["grid_outcome"]).startswith("grid: max_kl=0.001 missed: the predictions are 0.003 nats")
    assert missed["notes"] == [missed["grid_outcome"]]
    met = _converted(GridChoice(max_kl=0.003), _judge())
    assert str(met["grid_outcome"]).startswith("grid: max_kl=0.003 met") and "notes" not in met
    assert {"notes", "grid_outcome"}.isdisjoint(_converted(GridChoice(), _judge()))


@pytest.mark.parametrize(
    ("choice", "judge", "said"),
    [
        (
            GridChoice(max_kl=0.01),
            _judge(Target(max_drop=1.0)),
            "grid: max_kl=0.01 was not looked at: a target",
        ),
        (
            GridChoice(max_kl=0.01, max_drop=0.2),
            _judge(Target(max_bytes=9999)),
            "max_drop=0.2 were not looked",
        ),
        (GridChoice(max_nll_ratio=2.0), _judge(Target(max_bytes=9999)), "max_nll_ratio=2 was not looked at"),
        (GridChoice(max_kl=0.01), _judge(measures=False), "nothing measures how far predictions are"),
    ],
)
def test_what_is_not_looked_at_is_told(choice: GridChoice, judge: Judge, said: str) -> None:
    notes = _converted(choice, judge)["notes"]
    assert isinstance(notes, list) and said in notes[0] and "Cure: leave" in notes[0]


def test_a_ratio_counts_beside_a_target_for_the_metric() -> None:
    facts = _converted(GridChoice(max_nll_ratio=2.0), _judge(Target(max_drop=1.0)))
    assert "notes" not in facts and "max_nll_ratio=2 met" in str(facts["grid_outcome"])
