"""The usual training of each reference network, as data; the loop is in ``laconic.train``."""

from __future__ import annotations

from dataclasses import dataclass

from laconic.errors import InputError


@dataclass(frozen=True)
class TrainRecipe:
    """Adam at ``lr``, flat for the share ``flat`` of ``epochs``, then linearly to 0.

    ``validation`` images are carved from the training set before training. The names of the first
    four fields are those of ``laconic.train.fit.FitConfig`` and ``laconic.data.TensorLoader``.
    """

    epochs: int
    batch_size: int
    lr: float = 1e-3
    flat: float = 0.0
    validation: int = 5000

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size, self.validation) < 1 or self.lr <= 0 or not 0 <= self.flat <= 1:
            raise InputError(f"need epochs, batch_size, validation >= 1, lr > 0, flat in 0..1; got {self}")


LENET300_MNIST = TrainRecipe(epochs=20, batch_size=128, flat=0.3)
LENET5_MNIST = TrainRecipe(epochs=10, batch_size=128, flat=0.3)
RESNET20_CIFAR10 = TrainRecipe(epochs=100, batch_size=128, flat=0.3)
DIGITS = TrainRecipe(epochs=30, batch_size=64, flat=0.3, validation=200)
