"""One call from a trained network to a .lac file: prepare, fit, convert, for each stage; then save and
record.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from laconic import api
from laconic.errors import at
from laconic.methods.contract import Compressed, Judge, Method, Score, Target
from laconic.networks.modules import count_weights, plain_network
from laconic.networks.policy import Policy
from laconic.prepared import likelihood_of, prepared, unfinished_after
from laconic.tasks import Classification, Loss, Task, as_task, reread
from laconic.train.evaluate import divergence, evaluate
from laconic.train.fit import FitConfig, Hooks, fit
from laconic.train.history import recorder
from laconic.train.job import Job, Stage, on_device_of, resumable, settings_of, stages_of, weights_told
from laconic.train.progress import Progress, StepsProgress
from laconic.train.results import told, write_results
from laconic.train.rewind import Snapshots
from laconic.train.run_folder import CHECKPOINT, RunFolder, open_run
from laconic.train.start import Start, start_of

Loader = Iterable[Any]


def compress(
    model: nn.Module,
    train: Loader,
    validate: Loader,
    stages: Method | Stage | Sequence[Method | Stage],
    target: Target = Target(),  # noqa: B008 - frozen
    *,
    task: Task | Loss = Classification(),  # noqa: B008 - frozen
    fit: FitConfig = FitConfig(),  # noqa: B008 - frozen
    seed: int = 0,
    data_size: int | None = None,
    keep: str | Iterable[str] = (),
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    dynamic: Any = None,
) -> Compressed:
    """Compress a trained network with our own loop; returns the network, its integers and its record.

    A network on a GPU is trained there.

    Args:
        model: The trained network.
        train: Training batches as the task splits them, which can be read again in every epoch.
        validate: Batches that settings are chosen on; never the test set.
        stages: A method, or several in order, each with its own training (see
            :class:`~laconic.train.job.Stage`). What a stage has removed stays removed.
        target: Allowed loss of the metric on ``validate``, or largest length of the file in bytes.
        task: The task, or a plain loss function (outputs, target) that averages over the
            batch.
        fit: Training settings of stages that have none of their own.
        seed: The source of all noise.
        data_size: Number of likelihood terms in the training data (counted if not given).
        keep: Parameters, or modules, that end up in the file as they are (see ``laconic.prepare``).
        out: A run folder: ``model.lac``, ``record.json``, a log and checkpoints.
        resume: Whether to continue a run that was interrupted; the file is the same as of one that was not.
        progress: Shows the progress (None: one line, on a terminal).
        dynamic: The axes that are free in the file (see ``laconic.save``).

    Returns:
        The compressed network.

    Raises:
        DataError: An empty loader, one that can be read only once, labels that cannot be.
        ModelError, InputError: A network, an input, a task or a stage that does not fit.
        ScaleError: A ``data_size`` that is not the loader's, a loss that is not in nats where it must be.
        RunFolderError: A folder that is in use, or that holds a run with other settings or starting weights.
        NonFiniteError, WriteError: The training, the disk.

    >>> import torch, laconic
    >>> from laconic.methods import MagnitudePruning
    >>> from laconic.train.fit import FitConfig
    >>> x, y = torch.eye(4).repeat(8, 1), torch.arange(4).repeat(8)
    >>> net = laconic.compress(torch.nn.Linear(4, 4), [(x, y)], [(x, y)], MagnitudePruning(0.5),
    ...                        fit=FitConfig(epochs=2))
    >>> sorted(net.tensors)
    ['bias', 'weight']
    """
    wanted = on_device_of(model, stages_of(stages, fit))
    job = Job(wanted, target, seed, Policy.of(keep).keep, as_task(task))
    if resume and out is not None:
        resumable(job)
    opened = nullcontext() if out is None else open_run(Path(out), settings_of(job), resume=resume)
    with opened as folder:
        done = run_job(model, train, validate, job, data_size=data_size, folder=folder, progress=progress)
        done = replace(done, dynamic=dynamic)
        record = None if folder is None else write_results(done, job, folder, {})
        return told(job, done, None if record is None else record.file_bytes)


@dataclass(frozen=True, eq=False)
class _Run:
    """The arguments that all stages of a job share."""

    job: Job
    train: Loader
    validate: Loader
    start: Start
    folder: RunFolder | None
    show: Progress
    snapshots: Snapshots


def run_job(
    model: nn.Module,
    train: Loader,
    validate: Loader,
    job: Job,
    *,
    data_size: int | None = None,
    folder: RunFolder | None = None,
    progress: Progress | None = None,
) -> Compressed:
    """Prepare, fit (from the folder's checkpoints if there are any) and convert, stage by stage.

    Raises what :func:`compress` raises.
    """
    show = progress or StepsProgress()
    for name, loader in (("train", train), ("validate", validate)):
        with at(f"compress: {name}"):
            reread(loader)
    model, folded = plain_network(model, "compress")
    weights = count_weights(model)
    if folder is not None:
        folder.check_start(weights_told(model))
    in_nats = any(stage.method.in_nats for stage in job.stages)
    start = start_of(model, train, validate, job.task, in_nats=in_nats, data_size=data_size, keep=job.keep)
    metric = job.task.metric
    show.say(f"original: validation {metric.name} {metric.show(start.original.metric)}")
    notes = (*folded, *start.notes)
    for note in notes:
        show.say(note)
    needed = {stage.rewind_to for stage in job.stages if stage.rewind_to is not None}
    facts = {
        "metric": {"name": metric.name, "unit": metric.unit, "higher_is_better": metric.higher_is_better},
        "original_validation_metric": start.original.metric,
        "original_validation_nll": start.original.nll,
        "data_size": start.size,
        "weights_before": weights,
    }
    run = _Run(job, train, validate, start, folder, show, Snapshots(model, needed, folder))
    last: Compressed | None = None
    for number in range(len(job.stages)):
        last = _run_stage(run, model, number, last)
    small: Compressed = last  # type: ignore[assignment]  # a job has at least one stage
    every = list(dict.fromkeys([*notes, *small.facts.get("notes", ())]))
    return replace(small, facts={**small.facts, **facts, **({"notes": every} if every else {})})


def _run_stage(run: _Run, model: nn.Module, number: int, previous: Compressed | None) -> Compressed:
    """One stage, from the weights that it starts with to a plain network."""
    job, stage = run.job, run.job.stages[number]
    several = len(job.stages) > 1
    label = f"stage {number + 1} of {len(job.stages)} ({type(stage.method).__name__})"
    if several:
        run.show.say(label)
    start = model if previous is None else run.snapshots.start(previous, stage, number)
    steps = stage.fit.epochs * run.start.batches
    net = api.prepare(
        start,
        stage.method,
        run.start.example,
        data_size=run.start.size,
        task=job.task,
        seed=job.seed + number,
        total_steps=steps or None,
        keep=job.keep,
        batches=run.train,
        previous=previous,
        original=None if previous is None else model,
    )
    learnt = likelihood_of(net)
    score = partial(evaluate, batches=run.validate, task=job.task, learnt=learnt)
    apart = partial(divergence, batches=run.validate, task=job.task, learnt=learnt)
    for note in unfinished_after(net, steps, stage.fit.epochs):
        run.show.say(note)
    fit(
        net,
        run.train,
        stage.fit,
        Hooks.prepared(net),
        task=job.task,
        checkpoint=run.folder.path(checkpoint_name(number)) if run.folder else None,
        progress=run.show,
        on_epoch=_watcher(net, run, number, score),
        label=label if several else "training",
    )
    run.show.say(stage.method.deciding)
    target = job.target if number + 1 == len(job.stages) else replace(job.target, max_bytes=None)
    return api.decide(net, Judge(score, run.start.original, target, job.task.metric, apart))


def checkpoint_name(number: int) -> str:
    """The file that a stage's training is kept in; stages count from 0."""
    return CHECKPOINT if not number else CHECKPOINT.replace(".", f"-{number + 1}.")


def _watcher(
    net: nn.Module, run: _Run, number: int, score: Callable[[nn.Module], Score]
) -> Callable[[int, float], str]:
    """The function to call after each epoch, with its number from 0 and its mean objective.

    It writes a line of the run's log, a row of its history and a snapshot to rewind to. It returns the text
    that is shown after the loss: what it is the sum of, and the share of zeros.
    """
    folder, stage = run.folder, run.job.stages[number]
    add: Callable[[int, float], None] | None = None

    def watch(epoch: int, value: float) -> str:
        nonlocal add
        if number == 0:
            run.snapshots.take(net, epoch + 1)
        words = _parts_and_zeros(net, stage.method, value)
        if folder is None:
            return words
        folder.log(f"stage {number + 1} epoch {epoch + 1}/{stage.fit.epochs} loss {value:.5f}{words}")
        if add is None:  # the first epoch after a resumption says how many rows are kept
            add = recorder(net, stage.method, score, folder, epoch, number + 1)
        add(epoch, value)
        return words

    return watch


def _parts_and_zeros(net: nn.Module, method: Method, value: float) -> str:
    """The likelihood and the penalty that a loss is the sum of, all three means over the same epoch, and the
    share of weights that would be zero now. A method with an objective of its own has no such sum, and where
    nothing is added the loss is the likelihood.
    """
    words, nll = "", prepared(net, "compress").take_mean_nll()
    if nll is not None and abs(value - nll) > 1e-6 * max(1.0, abs(value)):
        added = f" + penalty {value - nll:.4f}" if type(method).objective is Method.objective else ""
        words = f" (likelihood {nll:.4f}{added})"
    left = method.weights_left(net)
    state = dict(net.named_parameters(remove_duplicate=False))
    if left:
        weights = sum(state[name].numel() for name in left if name in state)
        zeros = weights - sum(count for name, count in left.items() if name in state)
    else:
        found = [p for p in state.values() if p.ndim > 1]
        weights = sum(p.numel() for p in found)
        zeros = sum(int((p == 0).sum()) for p in found)
    return f"{words}, {100 * zeros / weights:.1f} % zeros" if zeros and weights else words
