"""Cures that make a target fit: each, done to the target, makes the task take it."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from laconic.errors import InputError
from laconic.tasks import (
    BinaryClassification,
    Classification,
    LanguageModelling,
    Regression,
    Segmentation,
    SequenceLabelling,
    Task,
)

CASES: list[tuple[Task, tuple[int, ...], Tensor, str]] = [
    (Regression(1.0), (4, 1), torch.rand(4), "targets[:, None]"),
    (Regression(1.0), (4, 1), torch.arange(4), "targets[:, None]"),
    (Classification(), (4, 3), torch.ones(4), "labels.long()"),
    (Classification(), (4, 3), torch.ones(4, 1), "labels.squeeze(1).long()"),
    (Classification(), (4, 3), torch.ones(4, 1, dtype=torch.int64), "labels.squeeze(1)"),
    (Segmentation(), (2, 3, 4, 5), torch.ones(2, 1, 4, 5), "labels.squeeze(1).long()"),
    (Segmentation(), (2, 3, 4, 5), torch.ones(2, 4, 5), "labels.long()"),
    (SequenceLabelling(), (2, 3, 5), torch.ones(2, 3), "labels.long()"),
    (LanguageModelling(), (2, 3, 5), torch.ones(2, 3, 1, dtype=torch.int64), "labels.squeeze(2)"),
]


@pytest.mark.parametrize(("task", "shape", "target", "cure"), CASES, ids=lambda x: type(x).__name__)
def test_the_cure_makes_the_target_fit(task: Task, shape: tuple[int, ...], target: Tensor, cure: str) -> None:
    with pytest.raises(InputError, match=f"Cure: {re.escape(cure)}$"):
        task.nll(torch.zeros(shape), target)
    cured = eval(cure, {"targets": target, "labels": target})
    assert torch.isfinite(task.nll(torch.zeros(shape), cured))
    if ".long()" in cure:
        with pytest.raises(InputError, match=re.escape(cure.replace(".long()", ".astype(int)"))):
            task.measure(torch.zeros(shape).numpy(), target.numpy())


def test_zeros_and_ones_may_be_a_binary_target() -> None:
    said = r"Cure: targets\[:, None\], or the task BinaryClassification$"
    target = torch.tensor([0, 1, 1, 0])
    with pytest.raises(InputError, match=said):
        Regression(1.0).nll(torch.zeros(4, 1), target)
    assert BinaryClassification().nll(torch.zeros(4, 1), target) > 0


def test_labels_that_are_no_whole_numbers_are_not_rounded_away() -> None:
    with pytest.raises(InputError, match=r"labels must be integers, and are float\. Cure: outputs"):
        Segmentation().nll(torch.zeros(2, 3, 4, 5), torch.full((2, 4, 5), 0.5))
