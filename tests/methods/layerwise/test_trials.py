"""Trials of a search: what they hold on to."""

import weakref
from typing import Any

import pytest
import torch
from torch import nn

import laconic
from laconic.methods import PostTraining, Target
from laconic.methods.layerwise import outcome, trials
from laconic.methods.layerwise.deciding import Decision


def test_only_the_best_trial_keeps_the_moments_of_its_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    moments: list[Any] = []
    alive: list[int] = []
    real = trials.decide_visited

    def watched(*args: Any) -> Decision:
        alive.append(sum(ref() is not None for ref in moments))
        decision = real(*args)
        moments.append(weakref.ref(decision.floor.args[1]))  # type: ignore[attr-defined]
        return decision

    monkeypatch.setattr(trials, "decide_visited", watched)
    model = nn.Sequential(nn.Linear(8, 4))
    small = laconic.compress_trained(
        model, [torch.randn(64, 8)], Target(max_kl=0.01), method=PostTraining(trials=6)
    )
    assert len(alive) == len(small.facts["prices_tried"]) > 2
    assert max(alive) == 1  # what the best one so far will say of its floor
    floor = small.facts["floor"]
    assert floor["weights"] == 32 and 0 < floor["entropy_bits"] <= floor["coded_bits"]


def test_floors_that_were_let_go_are_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a search by bytes released a trial of which a limit of the loss then takes."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(8, 4)), torch.randn(64, 8)
    method = PostTraining(trials=3)
    kept = laconic.compress_trained(model, [x], Target(max_kl=0.01), method=method).facts["floor"]
    real = outcome.find_price

    def released(*args: Any, **named: Any) -> Any:
        found = real(*args, **named)
        found.best.floors.release()
        assert found.best.floors.found() == {}
        return found

    monkeypatch.setattr(outcome, "find_price", released)
    again = laconic.compress_trained(model, [x], Target(max_kl=0.01), method=method).facts["floor"]
    assert again == kept and again["weights"] == 32
