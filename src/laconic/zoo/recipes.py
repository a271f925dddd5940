"""The usual training of each reference network, as data; the loop is in ``laconic.train``."""

from __future__ import annotations

from dataclasses import dataclass

from laconic.errors import InputError


@dataclass(frozen=True)
class TrainRecipe:
    """The usual training of a reference network: Adam, at a constant rate and then linearly to 0.

    Args:
        epochs: Passes over the training set.
        batch_size: Images in a batch.
        lr: Adam's learning rate at the start.
        flat: Share of training at the full rate, in [0, 1].
        validation: Images taken out of the training set for validation before training.

    Raises:
        InputError: A count below 1, a rate that is not positive, or ``flat`` outside [0, 1].

    >>> TrainRecipe(epochs=10, batch_size=128).lr
    0.001
    """

    epochs: int
    batch_size: int
    lr: float = 1e-3
    flat: float = 0.0
    validation: int = 5000

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size, self.validation) < 1 or self.lr <= 0 or not 0 <= self.flat <= 1:
            raise InputError(
                f"need epochs, batch_size, validation >= 1, lr > 0, flat in 0..1; got {self}. Cure: "
                "epochs=20, batch_size=100, lr=1e-3"
            )


LENET300_MNIST = TrainRecipe(epochs=20, batch_size=128, flat=0.3)
LENET5_MNIST = TrainRecipe(epochs=10, batch_size=128, flat=0.3)
RESNET20_CIFAR10 = TrainRecipe(epochs=100, batch_size=128, flat=0.3)
DIGITS = TrainRecipe(epochs=30, batch_size=64, flat=0.3, validation=200)
