"""The batches of a compression, built-in or the user's own, checked before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from laconic.cli.choices import NETWORKS
from laconic.cli.own import call_own
from laconic.cli.request import Request, batch_size
from laconic.data import TensorLoader, load, split
from laconic.errors import DataError, InputError
from laconic.zoo import LENET5_MNIST

Loader = Iterable[tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class Loaders:
    """Batches for training, validation (settings are chosen on it) and, if there is one, the test set."""

    train: Loader
    validation: Loader
    test: Loader | None


def make_loaders(request: Request) -> Loaders:
    """Built-in data split with the run's seed, or what the user's function returns."""
    if ":" in request.data:
        return _own_loaders(request.data)
    images = load(request.data)
    recipe = NETWORKS[request.network].recipe if request.network else LENET5_MNIST
    held_out = min(recipe.validation, len(images.train_labels) // 7)
    parts = split(images, validation=held_out, seed=request.seed)
    batch = batch_size(request.settings, recipe.batch_size)
    return Loaders(
        TensorLoader(parts.train, batch, seed=request.seed, drop_last=True, channels_last=True),
        TensorLoader(parts.validation, 1000, shuffle=False, channels_last=True),
        TensorLoader(parts.test, 1000, shuffle=False, channels_last=True),
    )


def _own_loaders(data: str) -> Loaders:
    found = call_own(data, "--data")
    if not isinstance(found, tuple) or len(found) not in (2, 3):
        raise InputError(
            f"--data {data} should return (train, validation) or (train, validation, test), "
            f"got a {type(found).__name__}. Cure: a tuple of loaders"
        )
    for name, loader in zip(("training", "validation", "test"), found, strict=False):
        if name != "test" or loader is not None:
            _check_loader(f"--data {data}: the {name} loader", loader)
    return Loaders(found[0], found[1], found[2] if len(found) == 3 else None)


def _check_loader(what: str, loader: Any) -> None:
    """Refuse what cannot be read again and again, and a first batch that is not a pair of tensors."""
    try:
        batches = iter(loader)
    except TypeError as error:
        raise InputError(
            f"{what} is a {type(loader).__name__}, which gives no batches. "
            "Cure: a list of (inputs, class indices) or a torch DataLoader"
        ) from error
    if batches is loader:
        raise DataError(
            f"{what} is a {type(loader).__name__}, which can be read only once, and each epoch reads it. "
            "Cure: list(...) of it, or a torch DataLoader"
        )
    batch = next(batches, None)
    if batch is None:
        raise DataError(f"{what} is empty. Cure: check its data set, batch size and drop_last")
    if not (isinstance(batch, tuple | list) and len(batch) == 2):
        raise DataError(
            f"{what} gave a {type(batch).__name__}, not a pair of tensors. "
            "Cure: batches are (inputs, class indices)"
        )
    if not all(isinstance(part, Tensor) for part in batch):
        kinds = " and ".join(type(part).__name__ for part in batch)
        raise DataError(f"{what} gave a pair of {kinds}, not of tensors. Cure: torch.as_tensor on both")
