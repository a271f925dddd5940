"""Labelled images as NumPy arrays, training and test set apart."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from laconic.data.cache import cache_folder, obtain
from laconic.data.idx import read_idx
from laconic.data.spec import FASHION_MNIST, MNIST, DataFile, DataSpec
from laconic.errors import DataError, InputError

DataName = Literal["digits", "mnist", "fashion-mnist"]
Bytes = npt.NDArray[np.uint8]

DIGITS_FILE = Path(__file__).with_name("digits.npz")
DIGITS_TEST = 360
DIGITS_SEED = 1797
"""The digits come as one set; this seed draws their test set, the same 360 images for everybody."""


@dataclass(frozen=True, eq=False)
class ImageData:
    """Grey images with labels, training and test set apart.

    Args:
        name: The data set's name.
        train_images: uint8 (N, H, W), in 0..``scale``.
        train_labels: uint8 (N,), in 0..``classes``-1.
        test_images: As the training images.
        test_labels: As the training labels.
        classes: Number of classes.
        scale: The value of a white pixel.

    Raises:
        DataError: A part is empty, images and labels differ in number, or a label or a pixel is out of range.

    >>> images, labels = np.zeros((3, 8, 8), np.uint8), np.uint8([0, 1, 1])
    >>> ImageData("own", images, labels, images[:1], labels[:1], classes=2).train_images.shape
    (3, 8, 8)
    """

    name: str
    train_images: Bytes
    train_labels: Bytes
    test_images: Bytes
    test_labels: Bytes
    classes: int = 10
    scale: int = 255

    def __post_init__(self) -> None:
        _check_part(f"{self.name}, training set", self.train_images, self.train_labels, self)
        _check_part(f"{self.name}, test set", self.test_images, self.test_labels, self)


def load(name: DataName | str, *, cache: str | os.PathLike[str] | None = None) -> ImageData:
    """A built-in data set: ``digits`` (in the package), ``mnist`` or ``fashion-mnist`` (cache, then network).

    Args:
        name: "digits", "mnist" or "fashion-mnist".
        cache: The folder for fetched files; None: see :func:`laconic.data.cache.cache_folder`.

    Returns:
        Images and labels.

    Raises:
        InputError: An unknown name.
        DataError: A damaged file.
        DownloadError: The files are neither in the cache nor to be fetched.

    >>> digits = load("digits")
    >>> digits.train_images.shape, digits.test_images.shape, digits.scale
    ((1437, 8, 8), (360, 8, 8), 16)
    """
    check_data_name(name)
    if name == "digits":
        return _digits()
    spec = MNIST if name == MNIST.name else FASHION_MNIST
    folder = cache_folder(cache)
    return _read(spec, None if folder is None else folder / spec.name)


def check_data_name(name: str) -> None:
    """Refuse a name that no built-in data set has.

    Args:
        name: The name to check.

    Raises:
        InputError: No built-in data set has this name.

    >>> check_data_name("digits")
    """
    known = get_args(DataName)
    if name not in known:
        raise InputError(f"no data set is called {name!r}. Cure: one of {', '.join(known)}")


def as_input(images: Bytes, scale: int) -> npt.NDArray[np.float32]:
    """Bytes (N, H, W) -> float32 (N, 1, H, W) in [0, 1].

    >>> as_input(np.array([[[0, 8, 16]]], np.uint8), 16)
    array([[[[0. , 0.5, 1. ]]]], dtype=float32)
    """
    return (images.astype(np.float32) / np.float32(scale))[:, None]


def _digits() -> ImageData:
    with np.load(DIGITS_FILE, allow_pickle=False) as stored:
        images, labels = stored["images"], stored["labels"]
    order = np.random.default_rng(DIGITS_SEED).permutation(len(images))
    test, train = np.sort(order[:DIGITS_TEST]), np.sort(order[DIGITS_TEST:])
    return ImageData("digits", images[train], labels[train], images[test], labels[test], scale=16)


def _read(spec: DataSpec, folder: Path | None) -> ImageData:
    data = obtain(spec, folder)

    def array(file: DataFile) -> Bytes:
        return read_idx(data[file.name], str(folder / file.name) if folder else file.name)

    return ImageData(
        spec.name,
        array(spec.train_images),
        array(spec.train_labels),
        array(spec.test_images),
        array(spec.test_labels),
        classes=spec.classes,
    )


def _check_part(place: str, images: Bytes, labels: Bytes, data: ImageData) -> None:
    if images.ndim != 3 or labels.ndim != 1:
        raise DataError(
            f"{place}: need images (N, H, W) and labels (N,), got {images.shape} and {labels.shape}. Cure: "
            "images without an axis of channels, one label for each"
        )
    if len(images) == 0:
        raise DataError(f"{place}: empty. Cure: at least one image")
    if len(images) != len(labels):
        raise DataError(
            f"{place}: {len(images)} images but {len(labels)} labels. Cure: one label for each image"
        )
    if int(labels.max()) >= data.classes:
        raise DataError(
            f"{place}: label {int(labels.max())} is outside 0..{data.classes - 1}. Cure: labels from 0, "
            f"classes={int(labels.max()) + 1}"
        )
    if int(images.max()) > data.scale:
        raise DataError(
            f"{place}: pixel {int(images.max())} is outside 0..{data.scale}. Cure: scale={int(images.max())}"
        )
