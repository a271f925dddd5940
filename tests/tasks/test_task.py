"""The base of all tasks: settings, metric, how a batch is split, and the check before training."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from laconic import tasks
from laconic.errors import DataError, InputError
from laconic.tasks import (
    Batch,
    BinaryClassification,
    Classification,
    LanguageModelling,
    Metric,
    MultiLabel,
    Regression,
    Segmentation,
    SequenceLabelling,
    Task,
)
from laconic.tasks.batches import split
from tests.helpers.fresh import run_fresh

SET_UP: list[Task] = [
    Classification(),
    Classification(255, target="label", inputs=("image", "mask")),
    BinaryClassification(target=0),
    MultiLabel(-1),
    Regression(),
    Regression((1.0, 2.5), "r2", unit="mm"),
    Segmentation(None, 12, "accuracy"),
    SequenceLabelling(0),
    LanguageModelling(None),
]


@pytest.mark.parametrize("task", SET_UP, ids=repr)
def test_a_task_is_a_value_and_its_repr_makes_it_again(task: Task) -> None:
    again = eval(repr(task), dict(vars(tasks)))
    assert again == task and hash(again) == hash(task)
    assert task != dataclasses.replace(task, target="other")
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.target = 1  # type: ignore[misc]


def test_lists_as_json_has_them_become_tuples() -> None:
    task = Regression(noise=[1.0, 2.0], inputs=["a", "b"])  # type: ignore[arg-type]
    assert task == Regression((1.0, 2.0), inputs=("a", "b")) and hash(task)


@pytest.mark.parametrize(
    "settings", [{"target": 1.0}, {"target": True}, {"inputs": "image"}, {"inputs": (1,)}]
)
def test_settings_that_are_no_keys(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="(target must be a key|inputs must be a tuple of keys)"):
        Classification(**settings)


@pytest.mark.parametrize(
    "kind", [Classification, MultiLabel, Segmentation, SequenceLabelling, LanguageModelling]
)
@pytest.mark.parametrize("ignore", ["255", 1.0, True])
def test_an_ignored_label_is_a_whole_number(kind: type[Task], ignore: Any) -> None:
    with pytest.raises(InputError, match=f"{kind.__name__}: ignore must be a whole number or None, got"):
        kind(ignore=ignore)  # type: ignore[call-arg]


def test_the_metric() -> None:
    loss, gain = Metric("error", "%"), Metric("mean IoU", "%", higher_is_better=True)
    assert loss.drop(2.0, 5.0) == 3.0 == gain.drop(5.0, 2.0)
    assert (
        Metric("loss", tolerance=0.01, relative=True).allowance(-300.0) == 3.0 and loss.allowance(9.0) == 0.1
    )
    assert Metric("RMSE", "mg").show(12345.678) == "1.235e+04 mg" and Metric("R2").show(0.5) == "0.5"
    with pytest.raises(InputError, match="a metric needs a name"):
        Metric("")
    for tolerance in (-1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="tolerance must be finite and >= 0"):
            Metric("error", tolerance=tolerance)


@pytest.mark.parametrize(
    ("batch", "where", "inputs", "target"),
    [
        (("x", "y"), {}, "x", "y"),
        (["x", "y"], {}, "x", "y"),
        (("x", "y"), {"target": 0}, "y", "x"),
        (("a", "y", "b"), {"target": 1}, ("a", "b"), "y"),
        (("a", "y", "b"), {"target": -2}, ("a", "b"), "y"),
        ((["a", "b"], "y"), {}, ("a", "b"), "y"),
        (({"a": 1}, "y"), {}, {"a": 1}, "y"),
        ({"a": 1, "b": 2, "y": 3}, {"target": "y"}, {"a": 1, "b": 2}, 3),
        ({"a": 1, "b": 2, "y": 3}, {"target": "y", "inputs": ("b",)}, {"b": 2}, 3),
    ],
)
def test_split(batch: Any, where: dict[str, Any], inputs: Any, target: Any) -> None:
    assert split(batch, **where) == Batch(inputs, target)
    assert Classification(**where).split(batch) == Batch(inputs, target)


@pytest.mark.parametrize(
    ("batch", "where", "message"),
    [
        (torch.zeros(2), {}, "a batch is a Tensor, not"),
        ("text", {}, "a batch is a str, not"),
        (("x",), {}, "a batch has 1 entries"),
        (("x", "y"), {"target": 2}, "a batch has 2 entries, the target is number 2"),
        (("x", "y"), {"target": "y"}, "the task's target is the key 'y', but a batch is a tuple"),
        ({"x": 1, "y": 2}, {}, "a dictionary of 'x', 'y', and which of them is the target was not said"),
        ({"x": 1}, {"target": "y"}, "a batch has no 'y'. Cure: one of 'x'"),
        ({"x": 1, "y": 2}, {"target": "y", "inputs": ("z",)}, "a batch has no 'z'. Cure: one of 'x', 'y'"),
    ],
)
def test_split_refuses(batch: Any, where: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        split(batch, **where)


class Own(Classification):
    """A task whose likelihood is what the test says."""

    answer: Any = None

    def nll(self, outputs: Any, target: Any, **learnt: Tensor) -> Any:
        return self.answer


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (3.5, InputError, "Own.nll returned a float, not a tensor"),
        (torch.zeros(4), InputError, r"Own.nll returned shape \(4,\), not one number. Cure: sum"),
        (torch.tensor(math.nan), DataError, "Own.nll of the first batch is nan"),
    ],
)
def test_check_refuses_a_likelihood_that_is_none(answer: Any, error: type[Exception], message: str) -> None:
    task = Own()
    object.__setattr__(task, "answer", answer)
    with pytest.raises(error, match=message):
        task.check(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64))


def test_check_hands_in_what_is_learnt() -> None:
    Regression().check(torch.zeros(3), torch.arange(3.0))
    with pytest.raises(DataError, match="Regression.nll of the first batch is nan"):
        Regression().check(torch.full((3,), math.nan), torch.arange(3.0))


def test_scoring_imports_no_torch_and_needs_none() -> None:
    code = """
import sys
import numpy as np
import laconic.tasks as tasks

assert len(tasks.task_entries()) >= 7
labels = np.array([0, 1])
for task, outputs, target in (
    (tasks.Classification(0), np.eye(2), labels),
    (tasks.BinaryClassification(), np.zeros(2), labels),
    (tasks.MultiLabel(), np.eye(2), np.eye(2)),
    (tasks.Regression(1.0), np.eye(2), np.eye(2)),
    (tasks.Segmentation(), np.zeros((1, 2, 2)), labels[None]),
    (tasks.SequenceLabelling(), np.zeros((1, 2, 2)), labels[None]),
    (tasks.make_task("language-modelling"), np.zeros((1, 2, 2)), labels[None]),
):
    task.nats(outputs, target), task.terms(target), task.value(task.measure(outputs, target)), task.metric
print("torch" in sys.modules)
"""
    assert run_fresh(code, without_torch=True) == "False\n"
    assert run_fresh(code) == "False\n"


def test_numpys_and_torchs_terms_are_alike_for_unsigned_bytes() -> None:
    labels = np.array([[255, 156]], dtype=np.uint8)
    for ignore in (-1, -100, 255, 411, None):
        task = SequenceLabelling(ignore)
        assert task.terms(labels) == task.terms(torch.from_numpy(labels)) == (1 if ignore == 255 else 2)
