"""Tasks, losses and batches that a compression cannot take."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import laconic
from laconic.errors import DataError, InputError, ScaleError
from laconic.methods import SparseVD
from laconic.schedules import WarmUp
from laconic.tasks import (
    Classification,
    LanguageModelling,
    MultiLabel,
    Regression,
    Segmentation,
    Task,
)
from laconic.train.fit import FitConfig

SPARSE_VD = SparseVD(warm_up=WarmUp(0.0, 2.0), init_log_var=-6.0)


FIT = FitConfig(epochs=8, lr=0.01)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _cut(*tensors: Tensor, size: int = 64) -> list[tuple[Tensor, ...]]:
    """Batches of ``size`` examples."""
    return [tuple(t[k : k + size] for t in tensors) for k in range(0, len(tensors[0]), size)]


def _mlp(inputs: int, outputs: int) -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(inputs, 16), nn.Tanh(), nn.Linear(16, outputs))


def _two_inputs() -> tuple[Tensor, Tensor, Tensor]:
    left, right = (torch.randn(128, 3, generator=_generator(k)) for k in (9, 10))
    return left, right, (left[:, 0] > 0).long() + (right[:, 0] > 0).long()


def _classes() -> tuple[Tensor, Tensor]:
    left, right, y = _two_inputs()
    return torch.cat([left, right], 1), y


@pytest.mark.parametrize(
    ("loss", "error", "said"),
    [
        (
            lambda out, y: F.cross_entropy(out, y, reduction="none"),
            InputError,
            r"shape \(64,\), not one number",
        ),
        (lambda out, y: F.cross_entropy(out, y) * math.nan, DataError, r"is nan\. Cure: look for NaN"),
        (lambda out, y: F.cross_entropy(out, y) / 0.0, DataError, r"is inf\. Cure: look for NaN"),
        (
            lambda out, y: F.cross_entropy(out, y, reduction="sum"),
            ScaleError,
            r"a sum over the batch.*'mean'",
        ),
        (lambda out, y: "much", InputError, r"returned a str, not one number"),
    ],
    ids=["vector", "NaN", "infinite", "sum", "text"],
)
def test_a_loss_that_is_no_mean_is_refused(loss: Any, error: type[Exception], said: str) -> None:
    data = _cut(*_classes())
    with pytest.raises(error, match=said):
        laconic.compress(_mlp(6, 3), data, data, SPARSE_VD, task=loss, fit=FIT)


def test_labels_that_are_all_ignored_are_refused() -> None:
    x, y = _classes()
    data, none = _cut(x, y), _cut(x, torch.full_like(y, -1))
    task = Classification(ignore=-1)
    for train, validate, said in (
        (none, data, r"first training batch.*no likelihood term: all of its labels are ignored.*Cure"),
        (data, none, r"validation split.*every label is ignored.*Cure"),
        ([*data, *none], data, r"a batch has no likelihood term: all of its labels are ignored"),
    ):
        with pytest.raises(DataError, match=said):
            laconic.compress(_mlp(6, 3), train, validate, SPARSE_VD, task=task, fit=FIT)


@pytest.mark.parametrize(
    ("task", "outputs", "said"),
    [
        (Classification(), 1, r"axis 1 of the outputs, the classes, has size 1\. Cure: the task Binary"),
        (Regression(), 3, r"Regression takes .*: axis 1 is of size 3 in the outputs, missing in the targets"),
        (Segmentation(), 3, r"Segmentation takes .*Cure: the task Classification"),
        (LanguageModelling(), 3, r"LanguageModelling takes .*Cure: the task Classification"),
        (MultiLabel(), 3, r"MultiLabel takes .*Cure: the task Classification"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Task) else "",
)
def test_a_task_that_does_not_fit_is_refused_with_the_axis(task: Task, outputs: int, said: str) -> None:
    data = _cut(*_classes())
    with pytest.raises(InputError, match=said):
        laconic.compress(_mlp(6, outputs), data, data, SPARSE_VD, task=task, fit=FIT)


def test_what_is_no_task_is_refused() -> None:
    data = _cut(*_classes())
    with pytest.raises(InputError, match=r"Regression is a class\. Cure: an instance, as Regression\(\)"):
        laconic.compress(_mlp(6, 3), data, data, SPARSE_VD, task=Regression, fit=FIT)
    with pytest.raises(InputError, match=r"task: 'regression' is no task\. Cure"):
        laconic.compress(_mlp(6, 3), data, data, SPARSE_VD, task="regression", fit=FIT)  # type: ignore[arg-type]


def test_a_metric_that_is_not_finite_is_refused() -> None:
    class Bottomless(Classification):
        """Its metric is infinite."""

        def value(self, sums: Any) -> float:
            return math.inf

    data = _cut(*_classes())
    with pytest.raises(laconic.errors.ModelError, match=r"its error inf before compression.*Cure"):
        laconic.compress(_mlp(6, 3), data, data, SPARSE_VD, task=Bottomless(), fit=FIT)


def test_batches_that_can_be_read_only_once_are_refused() -> None:
    data = _cut(*_classes())
    with pytest.raises(DataError, match=r"generator, which can be read only once, .*Cure: list"):
        laconic.compress(_mlp(6, 3), (b for b in data), data, SPARSE_VD, fit=FIT)
