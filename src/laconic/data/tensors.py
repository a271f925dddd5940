"""Images as tensors: a seeded split into training, validation and test, and batches in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from laconic.data.images import Bytes, ImageData, as_input
from laconic.errors import DataError, InputError


@dataclass(frozen=True, eq=False)
class TensorPair:
    """Inputs with one label each.

    Args:
        inputs: (N, ...), N >= 1.
        labels: int64 (N,), in 0..``classes``-1.
        classes: Number of classes.

    Raises:
        DataError: No examples, different lengths, labels of another type or a label out of range.

    >>> len(TensorPair(torch.zeros(3, 2), torch.tensor([0, 1, 1]), classes=2))
    3
    """

    inputs: Tensor
    labels: Tensor
    classes: int

    def __post_init__(self) -> None:
        if self.labels.ndim != 1 or self.labels.dtype != torch.int64:
            raise DataError(
                f"labels should be int64 (N,), got {self.labels.dtype} {tuple(self.labels.shape)}. Cure: "
                "labels.flatten().long()"
            )
        if len(self.inputs) != len(self.labels):
            raise DataError(
                f"{len(self.inputs)} inputs but {len(self.labels)} labels. Cure: one label for each input"
            )
        if len(self.labels) == 0:
            raise DataError("an empty set: no inputs and no labels. Cure: at least one example")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= self.classes:
            wrong = low if low < 0 else high
            raise DataError(
                f"label {wrong} is outside 0..{self.classes - 1} ({self.classes} classes). Cure: labels from "
                f"0, classes={high + 1}"
            )

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Splits:
    """Three sets without overlap.

    Attributes:
        train: What weights are fitted on.
        validation: What settings are chosen on.
        test: What results are reported on.

    >>> pair = TensorPair(torch.zeros(3, 2), torch.tensor([0, 1, 1]), classes=2)
    >>> len(Splits(pair, pair, pair).validation)
    3
    """

    train: TensorPair
    validation: TensorPair
    test: TensorPair


def split(data: ImageData, *, validation: int, seed: int) -> Splits:
    """Take a validation set out of the training set, the same one for the same seed.

    Args:
        data: Images and labels; its test set is kept as it is.
        validation: Number of images to take out of the training set, in 1..N-1.
        seed: Which images, >= 0.

    Returns:
        Three sets of float32 inputs (N, 1, H, W) in [0, 1].

    Raises:
        InputError: ``validation`` is not in 1..N-1, or a negative seed.

    >>> from laconic.data import load
    >>> parts = split(load("digits"), validation=237, seed=0)
    >>> parts.train.inputs.shape, len(parts.validation), len(parts.test)
    (torch.Size([1200, 1, 8, 8]), 237, 360)
    """
    count = len(data.train_labels)
    if not 0 < validation < count:
        raise InputError(
            f"validation={validation} must be between 1 and {count - 1} of {count} training images. Cure: "
            f"validation={max(1, count // 10)}"
        )
    if seed < 0:
        raise InputError(f"split: seed must be >= 0, got {seed}. Cure: seed=0")
    order = np.random.Generator(np.random.PCG64(seed)).permutation(count)
    chosen, rest = order[:validation], order[validation:]
    return Splits(
        train=_pair(data.train_images[rest], data.train_labels[rest], data),
        validation=_pair(data.train_images[chosen], data.train_labels[chosen], data),
        test=_pair(data.test_images, data.test_labels, data),
    )


class TensorLoader:
    """Batches of a pair held in memory: (inputs, labels), whole passes, ``len()`` batches each.

    The order of a pass depends on the seed and the epoch alone, so that a run that was interrupted continues
    with the batches that it would have seen. Each pass takes the next epoch; :meth:`set_epoch` chooses one.

    Args:
        pair: The examples.
        batch_size: Examples in a batch, >= 1.
        seed: Which orders, >= 0.
        shuffle: Whether the order changes from pass to pass; else it is that of the pair.
        drop_last: Whether a last batch that is not full is left out.
        channels_last: Whether batches of images (N, C, H, W) are laid out by pixel in memory.

    Raises:
        InputError: A batch size below 1, a negative seed, or ``channels_last`` without images.
        DataError: ``drop_last`` leaves no batch.

    >>> pair = TensorPair(torch.arange(5.0)[:, None], torch.zeros(5, dtype=torch.int64), classes=1)
    >>> loader = TensorLoader(pair, 2, shuffle=False)
    >>> len(loader), loader.data_size, [len(y) for _, y in loader]
    (3, 5, [2, 2, 1])
    """

    def __init__(
        self,
        pair: TensorPair,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        channels_last: bool = False,
    ) -> None:
        if batch_size < 1 or seed < 0:
            raise InputError(
                f"need batch_size >= 1 and seed >= 0, got {batch_size} and {seed}. Cure: batch_size=100, "
                "seed=0"
            )
        if drop_last and batch_size > len(pair):
            raise DataError(
                f"no batch: {len(pair)} examples do not fill one of {batch_size}. "
                "Cure: a smaller batch size, or drop_last=False"
            )
        if channels_last and pair.inputs.ndim != 4:
            raise InputError(
                f"channels_last needs inputs (N, C, H, W), got {tuple(pair.inputs.shape)}. Cure: "
                "channels_last=False"
            )
        self.pair = pair
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.epoch = 0
        self._layout = torch.channels_last if channels_last else torch.contiguous_format

    @property
    def data_size(self) -> int:
        """Number of examples that a pass draws from."""
        return len(self.pair)

    def __len__(self) -> int:
        whole, rest = divmod(len(self.pair), self.batch_size)
        return whole + (1 if rest and not self.drop_last else 0)

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be that of ``epoch``."""
        self.epoch = epoch

    def order(self, epoch: int) -> Tensor:
        """The permutation of the examples in ``epoch``, int64 (N,)."""
        if not self.shuffle:
            return torch.arange(len(self.pair))
        generator = np.random.Generator(np.random.PCG64([self.seed, epoch]))
        return torch.from_numpy(generator.permutation(len(self.pair)))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = self.order(self.epoch)
        self.epoch += 1
        return self._batches(order)

    def _batches(self, order: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for index in range(len(self)):
            rows = order[index * self.batch_size : (index + 1) * self.batch_size]
            yield self.pair.inputs[rows].contiguous(memory_format=self._layout), self.pair.labels[rows]


def _pair(images: Bytes, labels: Bytes, data: ImageData) -> TensorPair:
    inputs = torch.from_numpy(as_input(images, data.scale))
    return TensorPair(inputs, torch.from_numpy(labels.astype(np.int64)), data.classes)
