"""Likelihood, calibration and flips of a file against the network that it was made from."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

import laconic
from laconic.cli.quality import quality, quality_text
from laconic.methods import Compressed
from laconic.tasks import Classification, Regression


def test_a_file_is_compared_with_the_original_network(tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(0)
    original = nn.Linear(4, 3).train()
    x, y = torch.randn(60, 4, generator=g), torch.randint(0, 3, (60,), generator=g)
    changed = copy.deepcopy(original).eval()
    with torch.no_grad():
        original.weight.copy_(torch.randn(3, 4, generator=g))
        changed.weight.copy_(original.weight + 0.5 * torch.randn(3, 4, generator=g))
    small = Compressed(changed, {}, {}, example=x[:1])
    laconic.save(small, tmp_path / "model.lac")
    batches = [(x[:40], y[:40]), (x[40:], y[40:])]
    got = quality(tmp_path / "model.lac", original, batches, Classification())
    with torch.no_grad():
        theirs, ours = original(x), changed(x)
    before, after = theirs.argmax(1), ours.argmax(1)
    assert got["original_test_nll"] == pytest.approx(float(nn.functional.cross_entropy(theirs, y)), rel=1e-5)
    assert got["test_changed"] == int((before != after).sum()) > 0
    assert got["test_right_to_wrong"] == int(((before == y) & (after != y)).sum())
    assert got["test_wrong_to_right"] == int(((before != y) & (after == y)).sum())
    p = ours.softmax(1).max(1).values
    bins = (p * 15).ceil().long() - 1
    gaps = [float(((after == y).float() - p)[bins == b].sum().abs()) for b in range(15)]
    assert got["test_ece"] == pytest.approx(100 * sum(gaps) / 60, rel=1e-4)
    assert original.training
    told = quality_text({**got, "test_nll": 1.5})
    assert f"{got['test_changed']} answers changed" in told and "1.5000 after" in told
    ignoring = Classification(ignore=int(y[0]))
    fewer = quality(tmp_path / "model.lac", original, batches, ignoring)
    assert fewer["test_changed"] == int(((before != after) & (y != y[0])).sum())


def test_nothing_is_told_of_other_tasks() -> None:
    assert quality(Path("none.lac"), nn.Linear(1, 1), [], Regression()) == {}
    assert quality_text({}) == ""
