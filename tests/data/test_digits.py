"""The digits in the package are scikit-learn's, and the same split for everybody."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from laconic.data import ImageData, load
from laconic.data.images import DIGITS_FILE, as_input
from laconic.errors import DataError, InputError


def test_the_shipped_file_is_scikit_learns() -> None:
    reference = pytest.importorskip("sklearn.datasets").load_digits()
    with np.load(DIGITS_FILE) as stored:
        assert np.array_equal(stored["images"], reference.images)
        assert np.array_equal(stored["labels"], reference.target)
    assert DIGITS_FILE.stat().st_size < 80_000


def test_the_split_is_pinned_and_loses_nothing() -> None:
    data = load("digits")
    both = np.concatenate([data.train_images, data.test_images])
    with np.load(DIGITS_FILE) as stored:
        assert sorted(image.tobytes() for image in both) == sorted(i.tobytes() for i in stored["images"])
    assert hashlib.md5(data.test_labels.tobytes()).hexdigest() == "e4174f16480fc4265c430fc6e8dcd237"
    assert np.bincount(data.test_labels).min() >= 24


def test_an_unknown_name() -> None:
    with pytest.raises(InputError, match="'imagenet'.*one of digits, mnist, fashion-mnist"):
        load("imagenet")


def test_as_input_scales_and_adds_a_channel() -> None:
    data = load("digits")
    inputs = as_input(data.test_images, data.scale)
    assert inputs.dtype == np.float32
    assert inputs.shape == (360, 1, 8, 8)
    assert (inputs.min(), inputs.max()) == (0.0, 1.0)
    assert np.array_equal(inputs[:, 0] * 16, data.test_images)


IMAGES, LABELS = np.zeros((3, 2, 2), np.uint8), np.array([0, 1, 2], np.uint8)


@pytest.mark.parametrize(
    ("images", "labels", "why"),
    [
        (IMAGES, LABELS[:2], "3 images but 2 labels"),
        (IMAGES, np.array([0, 1, 10], np.uint8), r"label 10 is outside 0\.\.9"),
        (IMAGES[:0], LABELS[:0], "empty"),
        (IMAGES[0], LABELS, r"need images \(N, H, W\)"),
        (IMAGES + np.uint8(17), LABELS, r"pixel 17 is outside 0\.\.16"),
    ],
)
@pytest.mark.parametrize("part", ["training", "test"])
def test_wrong_data_is_refused(images: np.ndarray, labels: np.ndarray, why: str, part: str) -> None:
    good, bad = (IMAGES, LABELS), (images, labels)
    parts = (*bad, *good) if part == "training" else (*good, *bad)
    with pytest.raises(DataError, match=f"toy, {part} set: {why}"):
        ImageData("toy", *parts, scale=16)
