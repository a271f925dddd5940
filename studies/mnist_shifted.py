"""MNIST, training images moved by up to one pixel each way, for ``--data mnist_shifted:loaders``.

Validation and test images stay as they are. The split is that of ``--data mnist`` with seed 0.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from laconic.data import TensorLoader, load, split

MOST = 1


class ShiftedLoader(TensorLoader):
    """Batches whose images are moved, each by its own whole number of pixels, the edges filled with zeros.

    The moves depend on the seed and the epoch alone, as the order does.
    """

    def _batches(self, order: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        for images, labels in super()._batches(order):
            yield moved(images, generator), labels


def moved(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images (N, C, H, W), each moved by -1, 0 or 1 pixels along both axes."""
    height, width = images.shape[-2:]
    ways = 2 * MOST + 1
    padded = F.pad(images, (MOST,) * 4)
    way = torch.randint(ways**2, (len(images),), generator=generator)
    found = torch.empty_like(images)
    for k in range(ways**2):
        down, right = divmod(k, ways)
        here = way == k
        found[here] = padded[here][:, :, down : down + height, right : right + width]
    return found


def loaders() -> tuple[ShiftedLoader, TensorLoader, TensorLoader]:
    """Training, validation and test batches."""
    parts = split(load("mnist"), validation=5000, seed=0)
    rest = (TensorLoader(p, 1000, shuffle=False, channels_last=True) for p in (parts.validation, parts.test))
    train = ShiftedLoader(parts.train, 128, seed=0, drop_last=True, channels_last=True)
    return (train, *rest)
