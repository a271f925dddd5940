"""Classification, binary and multi-label: figures by hand, and what each refuses."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from sklearn.metrics import hamming_loss

from laconic.errors import DataError, InputError
from laconic.tasks import BinaryClassification, Classification, MultiLabel, Task

NAN = float("nan")


def zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(shape)


def whole(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.int64)


def test_error_by_hand() -> None:
    logits = np.array([[3.0, 1.0], [0.0, 2.0], [5.0, 4.0], [0.0, 0.0]])
    labels = np.array([0, 0, 0, -1])
    task = Classification(ignore=-1)
    assert task.measure(logits, labels).tolist() == [1.0, 3.0]
    assert task.value(task.measure(logits, labels)) == pytest.approx(100 / 3)
    assert task.terms(labels) == 3


def test_soft_labels_score_by_their_most_likely_class() -> None:
    logits, soft = np.array([[3.0, 1.0], [0.0, 2.0]]), np.array([[0.4, 0.6], [0.1, 0.9]], dtype=np.float32)
    assert Classification().measure(logits, soft).tolist() == [1.0, 2.0]
    assert Classification().terms(soft) == 2


@pytest.mark.parametrize(
    ("task", "target"),
    [
        (Classification(ignore=7), torch.tensor([7, 7])),
        (MultiLabel(), torch.full((2, 3), NAN)),
        (MultiLabel(ignore=7), torch.full((2, 3), 7)),
    ],
)
def test_all_ignored_is_zero_terms_and_zero_nats(task: Task, target: torch.Tensor) -> None:
    outputs = torch.ones(2, 3, requires_grad=True)
    nll = task.nll(outputs, target)
    nll.backward()
    assert task.terms(target) == 0
    assert nll.item() == 0 == task.nats(outputs.detach().numpy(), target.numpy())
    assert outputs.grad is not None and torch.equal(outputs.grad, torch.zeros(2, 3))
    with pytest.raises(DataError, match="nothing to measure"):
        task.value(task.measure(outputs.detach().numpy(), target.numpy()))


def test_ignored_inputs_may_be_nan() -> None:
    logits = np.array([[1.0, 0.0], [NAN, NAN]])
    assert Classification(ignore=9).measure(logits, np.array([0, 9])).tolist() == [0.0, 1.0]


def test_unsigned_bytes_are_not_ignored_by_a_negative_marker() -> None:
    labels = torch.tensor([255, 1], dtype=torch.uint8)  # torch finds 255 == -1 there
    assert Classification(ignore=-1).terms(labels) == 2
    assert Classification(ignore=255).terms(labels) == 1


@pytest.mark.parametrize(
    ("outputs", "target", "message"),
    [
        (zeros(2, 5, 3), whole(2, 5), "outputs have 3 axes, not 2. Cure: the task SequenceLabelling or Lang"),
        (zeros(2, 3, 4, 5), whole(2, 4, 5), "outputs have 4 axes.*Cure: the task Segmentation"),
        (zeros(2, 1), whole(2), "axis 1 of the outputs.*size 1. Cure: the task BinaryClassification"),
        (zeros(2), whole(2), "outputs have 1 axes.*Cure: the task BinaryClassification"),
        (zeros(2, 3), whole(2, 3), "must be floating-point.*Cure: the task MultiLabel"),
        (zeros(2, 1), zeros(2, 1), "size 1. Cure: the task Regression, or MultiLabel"),
        (zeros(2, 3), zeros(2), "labels on axis 0 alone must be integers, and are float. Cure: labels"),
        (zeros(2, 3), whole(2).bool(), "must be integers, and are bool"),
        (zeros(2, 3), whole(4), "axis 0, the examples, is 2 in the outputs and 4 in the targets"),
        (zeros(2, 3), whole(), "axis 0, the examples, is 2 in the outputs and none in the targets"),
        (zeros(2, 3), zeros(2, 4), "the targets' axis 1 is not the outputs' classes"),
        ((zeros(2, 3), zeros(2)), whole(2), "the network's outputs are a tuple, not one tensor"),
    ],
)
def test_classification_refuses(outputs: torch.Tensor, target: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Classification().nll(outputs, target)


@pytest.mark.parametrize(
    ("outputs", "target", "message"),
    [
        (zeros(2, 3), whole(2), "axis 1 of the outputs has size 3, not 1. Cure: the task Classification"),
        (zeros(2, 1), whole(3), "axis 0, the examples, is 2 in the outputs and 3 in the targets"),
        (zeros(2, 1, 1), whole(2), "outputs have 3 axes, not 1 or 2"),
        (zeros(2, 1), whole(2, 2), "axis 1 of the targets has size 2, not 1"),
    ],
)
def test_binary_refuses(outputs: torch.Tensor, target: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        BinaryClassification().nll(outputs, target)


@pytest.mark.parametrize(
    ("outputs", "target", "message"),
    [
        (zeros(2, 3), whole(2), "targets have 1 axes, not 2. Cure: the task Classification"),
        (zeros(2, 3), whole(2, 4), "axis 1, the labels, is 3 and 4"),
        (zeros(2, 3, 4), zeros(2, 3, 4), "outputs have 3 axes, not 2. Cure: the task Regression"),
    ],
)
def test_multilabel_refuses(outputs: torch.Tensor, target: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        MultiLabel().nll(outputs, target)


@pytest.mark.parametrize(
    ("task", "target", "message"),
    [
        (
            Classification(),
            torch.tensor([0, 3]),
            r"label 3 is out of range for a network with 3 outputs \(0..2\)",
        ),
        (Classification(), torch.tensor([0, -100]), r"label -100 is out of range.*ignore=-100"),
        (Classification(ignore=3), torch.tensor([4, 3]), "label 4 is out of range"),
        (Classification(), torch.full((2, 3), 0.5), "sum to 1.5, not 1.*MultiLabel where"),
        (
            Classification(),
            torch.tensor([[2.0, -1, 0], [1, 0, 0]]),
            r"class probability -1 is outside \[0, 1\]",
        ),
        (BinaryClassification(), torch.tensor([0, 2]), r"target 2 is outside \[0, 1\]"),
        (BinaryClassification(), torch.tensor([0.0, NAN]), r"target nan is outside \[0, 1\]"),
        (MultiLabel(), torch.tensor([[0, 1, -1], [0, 0, 0]]), r"target -1 is outside \[0, 1\]"),
    ],
)
def test_values_that_no_label_has(task: Task, target: torch.Tensor, message: str) -> None:
    outputs = zeros(2, 1) if isinstance(task, BinaryClassification) else zeros(2, 3)
    with pytest.raises(DataError, match=message):
        task.nll(outputs, target)
    with pytest.raises(DataError, match=message):
        task.measure(outputs.numpy(), target.numpy())
    with pytest.raises(DataError, match=message):
        task.nats(outputs.numpy(), target.numpy())


@pytest.mark.parametrize(
    ("task", "outputs", "target", "message"),
    [
        (Classification(), [[0.0, NAN], [0.0, 1.0]], [0, 0], "NaN for 1 of 2 inputs, which no class"),
        (BinaryClassification(), [NAN, NAN], [0, 0], "NaN for 2 of 2 inputs, which no class"),
        (MultiLabel(), [[0.0, NAN]], [[0, 0]], "NaN for 1 of 2 labels, which no label"),
    ],
)
def test_outputs_that_are_nan(task: Task, outputs: list[float], target: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        task.measure(np.array(outputs), np.array(target))


def test_measure_takes_arrays_only() -> None:
    with pytest.raises(
        InputError, match=re.escape("outputs are a Tensor, not a NumPy array. Cure: .detach()")
    ):
        Classification().measure(zeros(2, 3), whole(2))


def test_binary_error_by_hand_in_all_shapes() -> None:
    task, logits, targets = BinaryClassification(), np.array([2.0, -1.0, 0.5, 0.0]), np.array([1, 1, 0, 0])
    for out in (logits, logits[:, None]):
        for to in (targets, targets[:, None], targets.astype(bool), targets.astype(np.float16)):
            assert task.measure(out, to).tolist() == [2.0, 4.0]
    assert task.nats(np.zeros(3), np.array([0.3, 0.5, 1.0])) == pytest.approx(3 * math.log(2))


def test_label_error_is_the_hamming_loss() -> None:
    g = np.random.default_rng(3)
    logits, targets = g.normal(size=(20, 5)), g.integers(0, 2, (20, 5))
    task = MultiLabel()
    by_sklearn = 100 * hamming_loss(targets, (logits > 0).astype(int))
    assert task.value(task.measure(logits, targets)) == pytest.approx(by_sklearn)


def test_a_label_that_is_not_known_does_not_count() -> None:
    logits = np.array([[1.0, 1.0], [1.0, -1.0]])
    assert MultiLabel().measure(logits, np.array([[1.0, NAN], [0.0, 0.0]])).tolist() == [1.0, 3.0]
    assert MultiLabel(ignore=-1).measure(logits, np.array([[1, -1], [0, -1]])).tolist() == [1.0, 2.0]
