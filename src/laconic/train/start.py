"""Checks before a compression trains: whether the network fits the data, the task and the method."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sized
from typing import Any, NamedTuple

import torch
from torch import nn

from laconic.errors import DataError, ScaleError, at
from laconic.methods.contract import Score
from laconic.networks import to_device
from laconic.networks.layout import run
from laconic.networks.modes import evaluating
from laconic.networks.policy import Policy
from laconic.networks.probe import small_example
from laconic.prepared import counted, likelihood_start
from laconic.tasks import Task, length_of, reread
from laconic.tasks.batches import as_arrays
from laconic.tasks.given import count_batches
from laconic.train.evaluate import score_original
from laconic.train.loaders import check_reread

Loader = Iterable[Any]


class Start(NamedTuple):
    """What is known of a network and its data before the first stage.

    ``size``: likelihood terms of the training data; ``batches``: of an epoch; ``notes``: for the user.
    """

    example: Any
    size: int
    batches: int
    original: Score
    notes: tuple[str, ...]


def start_of(
    model: nn.Module,
    train: Loader,
    validate: Loader,
    task: Task,
    *,
    in_nats: bool,
    data_size: int | None,
    keep: tuple[str, ...],
) -> Start:
    """What a job starts from, once it is sure that network, data and task fit each other.

    Raises what :func:`laconic.train.compress.compress` raises for these.
    """
    notes = frozen(model, keep)
    example = check_start(model, train, task, in_nats=in_nats)
    batches = count_batches(train)
    size = data_size if data_size is not None else count_terms(train, task)
    check_size(size, train, task)
    learnt = likelihood_start(model, task, reread(train))
    check_reread(train, "train")
    original = score_original(model, validate, task, learnt)
    check_reread(validate, "validate")
    return Start(example, size, batches, original, notes)


def check_start(model: nn.Module, train: Loader, task: Task, *, in_nats: bool = False) -> Any:
    """An example input, once it is sure that the network can learn from the first training batch.

    Refuses before any time is spent.

    Args:
        model: The network.
        train: Training batches.
        task: The task.
        in_nats: Whether the likelihood will be weighed against a penalty in nats.

    Returns:
        The inputs of two examples of the first batch.

    Raises:
        ModelError: No parameters, NaN weights.
        InputError: Inputs of a shape that the network does not take, outputs that the task does not take.
        DataError: An empty loader, a batch that cannot be split, labels that the network cannot have.
        ScaleError: A loss that cannot be in nats per term where it must be.
    """
    given = next(iter(train), None)
    if given is None:
        raise DataError("compress: the training loader is empty. Cure: check its data set and batch size")
    with at("compress: the first training batch"):
        batch = task.split(given)
        example = small_example(model, batch.inputs, task.batch_axis)
        device = next(model.parameters()).device
        inputs = to_device(batch.inputs, device)
        with evaluating(model), torch.no_grad():
            outputs = to_device(task.prediction(run(model, inputs)), torch.device("cpu"))
            task.check(outputs, batch.target)
            counted(task, batch)
            task.measure(*as_arrays((outputs, batch.target)))
            if in_nats:
                task.check_scale(outputs, batch.target)
    return example


def frozen(model: nn.Module, keep: tuple[str, ...] = ()) -> tuple[str, ...]:
    """A note on the parameters that are put on a grid without being trained for it, if there are any."""
    kept = Policy(keep).keeps
    names = [name for name, p in model.named_parameters() if not p.requires_grad and not kept(name)]
    if not names:
        return ()
    count = "1 parameter is" if len(names) == 1 else f"{len(names)} parameters are"
    note = f"{count} frozen (requires_grad is False; the first is {names[0]!r}): neither trained nor pruned, "
    return (note + "but put on a grid. Cure: requires_grad_(True) to prune them, keep=[names] to leave them",)


def count_terms(loader: Loader, task: Task) -> int:
    """Likelihood terms of a loader: as it says itself, or else counted in one pass."""
    known = known_terms(loader, task)
    return known if known is not None else sum(task.terms(task.split(batch).target) for batch in loader)


def known_terms(loader: Loader, task: Task) -> int | None:
    """A loader's ``data_size``, or the length of what it draws from where each example is one term; None
    where labels have to be looked at.
    """
    if getattr(task, "ignore", None) is not None:
        return None  # which examples are no terms shows in the labels alone
    size = getattr(loader, "data_size", None)
    if isinstance(size, int):
        return size
    if not task.one_term_per_example:
        return None
    batches = getattr(loader, "batch_sampler", None)
    # A DataLoader with a batch sampler of the user's own has a sampler too, but does not ask it.
    sampler = getattr(loader if batches is None else batches, "sampler", None)
    if isinstance(sampler, Sized):
        return len(sampler)
    dataset = getattr(loader, "dataset", None) if batches is None or sampler is not None else None
    return len(dataset) if isinstance(dataset, Sized) else None


def check_size(data_size: int, loader: Loader, task: Task) -> None:
    """Refuse a ``data_size`` that is not the loader's; less than a batch may be left over (drop_last)."""
    known = known_terms(loader, task)
    if known is None or not isinstance(data_size, int):
        return  # what is no whole number is refused with the other numbers that cannot be
    length = length_of(loader)
    batch = 1 if length is None else math.ceil(known / max(1, length))
    if abs(data_size - known) >= max(1, batch):
        raise ScaleError(
            f"compress: data_size={data_size}, but the training loader draws from {known} examples. "
            f"Cure: data_size={known}, or leave it out"
        )
