"""Segmentation: mean IoU by hand and scikit-learn's, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score

from laconic.errors import DataError, InputError
from laconic.tasks import Segmentation

G = np.random.default_rng(4)


def one_hot(predicted: list[int], classes: int) -> np.ndarray:
    """Logits (1, C, 1, W) whose most likely classes are these."""
    return np.eye(classes)[predicted].T[None, :, None, :]


def test_mean_iou_is_scikit_learns_from_batches() -> None:
    logits, labels = G.normal(size=(6, 5, 7, 8)), G.integers(0, 5, (6, 7, 8))
    labels[G.random(labels.shape) < 0.2] = 255
    task = Segmentation(ignore=255)
    kept = labels != 255
    by_sklearn = jaccard_score(labels[kept], logits.argmax(1)[kept], average="macro")
    sums = task.measure(logits[:2], labels[:2]) + task.measure(logits[2:], labels[2:])
    assert task.value(sums) == pytest.approx(100 * by_sklearn)
    accuracy = Segmentation(255, metric_name="accuracy")
    assert accuracy.value(sums) == pytest.approx(100 * (labels == logits.argmax(1))[kept].mean())
    assert task.terms(labels) == kept.sum()


def test_by_hand_with_an_absent_class_and_an_ignored_pixel() -> None:
    logits = one_hot([0, 0, 1, 3, 1], 5)
    labels = np.array([[[0, 1, 1, 1, -100]]])
    # IoU: class 0 1/2, class 1 1/3, class 3 0/1; classes 2 and 4 are in neither
    assert Segmentation().value(Segmentation().measure(logits, labels)) == pytest.approx(
        100 * (1 / 2 + 1 / 3) / 3
    )


def test_an_ignored_label_that_is_a_class_is_not_in_the_mean() -> None:
    logits, labels = one_hot([0, 2, 2], 3), np.array([[[0, 0, 2]]])
    # class 0: 1 of 2; class 2 means "none", so that predicting it is an error of class 0 alone
    assert Segmentation(ignore=2).value(Segmentation(ignore=2).measure(logits, labels)) == pytest.approx(50.0)


def test_all_ignored() -> None:
    logits, labels = np.zeros((2, 3, 4)), np.full((2, 4), -100)
    assert Segmentation().terms(labels) == 0 == Segmentation().nats(logits, labels)
    assert Segmentation().nll(torch.from_numpy(logits), torch.from_numpy(labels)).item() == 0
    for name in ("mean_iou", "accuracy"):
        task = Segmentation(metric_name=name)  # type: ignore[arg-type]
        with pytest.raises(DataError, match="nothing to measure"):
            task.value(task.measure(logits, labels))


@pytest.mark.parametrize(
    ("outputs", "labels", "message"),
    [
        ((2, 3), (2,), "outputs have 2 axes, not 3 or more. Cure: the task Classification"),
        ((2, 1, 4, 5), (2, 4, 5), "axis 1 of the outputs, the classes, has size 1"),
        ((2, 3, 4, 5), (2, 1, 4, 5), "labels have 4 axes, not 3"),
        ((2, 3, 4, 5), (2, 4, 6), "axis 2 of the labels has size 6, and the outputs have 5 there"),
        ((2, 7, 3), (2, 7), "axis 1 of the labels has size 7.*Cure: the task SequenceLabelling or Language"),
        ((2, 4, 4, 5), (2, 4, 5), "axis 1 of the outputs has size 4, and classes=3"),
    ],
)
def test_refuses(outputs: tuple[int, ...], labels: tuple[int, ...], message: str) -> None:
    task = Segmentation(classes=3 if outputs[1] == 4 else None)
    with pytest.raises(InputError, match=message):
        task.nll(torch.zeros(outputs), torch.zeros(labels, dtype=torch.int64))


def test_refuses_values() -> None:
    labels = np.array([[0, 255]])
    with pytest.raises(DataError, match="label 255 is out of range.*ignore=255"):
        Segmentation().measure(np.zeros((1, 2, 2)), labels)
    with pytest.raises(InputError, match="labels must be integers, and are float"):
        Segmentation().measure(np.zeros((1, 2, 2)), labels.astype(float))
    with pytest.raises(DataError, match="NaN for 1 of 1 pixels"):
        Segmentation(ignore=255).measure(np.full((1, 2, 2), np.nan), labels)
    with pytest.raises(InputError, match="classes must be a whole number >= 2 or None, got 1"):
        Segmentation(classes=1)
    with pytest.raises(InputError, match="metric_name must be 'mean_iou' or 'accuracy'"):
        Segmentation(metric_name="dice")  # type: ignore[arg-type]
