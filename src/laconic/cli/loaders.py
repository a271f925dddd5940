"""The batches of a compression, built-in or the user's own, checked before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, TensorDataset

from laconic.cli.array_files import batches_of
from laconic.cli.data_files import Examples, parts_of
from laconic.cli.own import call_own
from laconic.cli.readers import read_archive
from laconic.cli.request import Request, batch_size
from laconic.cli.sources import array_file
from laconic.data import TensorLoader, TensorPair, load, split
from laconic.errors import DataError, InputError, at
from laconic.tasks import Task, check_target, reread
from laconic.zoo import LENET5_MNIST
from laconic.zoo.registry import find_network

Loader = Iterable[Any]


@dataclass(frozen=True, eq=False)
class Loaders:
    """Batches for training, validation (settings are chosen on it) and, if there is one, the test set."""

    train: Loader
    validation: Loader
    test: Loader | None


def make_loaders(request: Request, task: Task) -> Loaders:
    """Built-in data split with the run's seed, or what the user's function returns."""
    if ":" in request.data:
        return _own_loaders(request.data, task, targets=request.model is not None)
    recipe = find_network(request.network).recipe if request.network else LENET5_MNIST
    if array_file(request.data):
        return _file_loaders(request, recipe.batch_size)
    images = load(request.data)
    held_out = min(recipe.validation, len(images.train_labels) // 7)
    parts = split(images, validation=held_out, seed=request.seed)
    batch = batch_size(request.settings, recipe.batch_size)
    return Loaders(
        TensorLoader(parts.train, batch, seed=request.seed, drop_last=True, channels_last=True),
        TensorLoader(parts.validation, 1000, shuffle=False, channels_last=True),
        TensorLoader(parts.test, 1000, shuffle=False, channels_last=True),
    )


def _file_loaders(request: Request, usual: int) -> Loaders:
    """The examples of a .npz file (:mod:`laconic.cli.data_files`)."""
    parts = parts_of(request.data, read_archive(request.data, "--data "), request.seed)
    batch = batch_size(request.settings, usual)
    made = {name: _batches(part, batch if name == "train" else 1000, name) for name, part in parts.items()}
    return Loaders(made["train"], made["validation"], made.get("test"))


def _batches(part: Examples, size: int, name: str) -> Loader:
    """Batches, shuffled and all full for training; of classes from memory, of other targets one by one."""
    inputs, targets = (torch.from_numpy(array) for array in part)
    training = name == "train"
    full = training and len(targets) > size
    if targets.ndim == 1 and targets.dtype == torch.int64 and int(targets.min()) >= 0:
        pair = TensorPair(inputs, targets, int(targets.max()) + 1)
        images = inputs.ndim == 4
        return TensorLoader(pair, size, shuffle=training, drop_last=full, channels_last=images)
    examples: TensorDataset = TensorDataset(inputs, targets)
    return DataLoader(examples, size, shuffle=training, drop_last=full)


def make_calibration(request: Request, task: Task) -> Loaders:
    """Inputs to compress a trained network with, in place of training batches.

    Validation and test set are those of ``--data`` where it is given; a function may return labelled
    validation batches beside the inputs.
    """
    asked = request.calibrate or ""
    data = make_loaders(request, task) if request.data else Loaders([], [], None)
    if array_file(asked):
        return Loaders(batches_of(asked), data.validation, data.test)
    if ":" not in asked:
        return replace(make_loaders(replace(request, data=asked), task), test=data.test)
    found = call_own(asked, "--calibrate")
    parts = found if isinstance(found, tuple) else (found,)
    if len(parts) > 2:
        raise InputError(
            f"--calibrate {asked} should return batches, or (batches, validation batches), got "
            f"{len(parts)} things. Cure: a list of batches"
        )
    for name, loader in zip(("inputs", "validation"), parts, strict=False):
        with at(f"--calibrate {asked}: the {name}"):
            reread(loader)
    return Loaders(parts[0], parts[1] if len(parts) == 2 else data.validation, data.test)


def _own_loaders(data: str, task: Task, *, targets: bool) -> Loaders:
    """What the user's function returns; ``targets``: checked against the task alone, since a network of the
    user's own may be trained when it is asked for.
    """
    found = call_own(data, "--data")
    if not isinstance(found, tuple) or len(found) not in (2, 3):
        raise InputError(
            f"--data {data} should return (train, validation) or (train, validation, test), "
            f"got a {type(found).__name__}. Cure: a tuple of loaders"
        )
    for name, loader in zip(("training", "validation", "test"), found, strict=False):
        if name != "test" or loader is not None:
            _check_loader(f"--data {data}: the {name} loader", loader, task, targets=targets)
    return Loaders(found[0], found[1], found[2] if len(found) == 3 else None)


def _check_loader(what: str, loader: Any, task: Task, *, targets: bool) -> None:
    """Refuse a loader that can be read once only, and a first batch that the task cannot split; with
    ``targets`` also one whose targets fit no outputs.
    """
    try:
        iter(loader)
    except TypeError as error:
        raise InputError(
            f"{what} is a {type(loader).__name__}, which gives no batches. "
            "Cure: a list of batches or a torch DataLoader"
        ) from error
    with at(what):
        batch = next(iter(reread(loader)()), None)
        if batch is None:
            raise DataError("it is empty. Cure: check its data set, batch size and drop_last")
        parts = task.split(batch)
        for name, part in (("input", parts.inputs), ("target", parts.target)):
            odd = next((leaf for leaf in tree_leaves(part) if isinstance(leaf, np.ndarray)), None)
            if odd is not None or (name == "target" and not isinstance(part, Tensor)):
                kind = type(part if odd is None else odd).__name__
                raise DataError(f"the {name} of a batch is a {kind}, no tensor. Cure: torch.as_tensor")
        if targets:
            check_target(task, parts.target)
