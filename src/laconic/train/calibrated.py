"""One call from a trained network and a few hundred inputs to a small one: no labels, no training."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from laconic import api
from laconic.errors import DataError, InputError, at
from laconic.methods.contract import Compressed, Judge, Method, Score, Target
from laconic.methods.layerwise.calibration import first_inputs, has_target
from laconic.methods.post_training import PostTraining
from laconic.networks.modules import count_weights, plain_network
from laconic.networks.policy import Policy
from laconic.networks.probe import small_example
from laconic.prepared import likelihood_start
from laconic.tasks import Classification, Loss, Task, as_task, reread
from laconic.train.evaluate import evaluate, score_original
from laconic.train.fit import FitConfig
from laconic.train.job import Job, Stage, settings_of
from laconic.train.progress import Progress, StepsProgress
from laconic.train.randomness import global_noise
from laconic.train.results import told, write_results
from laconic.train.run_folder import open_run

Loader = Iterable[Any]


def compress_trained(
    model: nn.Module,
    calibrate: Loader,
    target: Target,
    *,
    validate: Loader | None = None,
    method: PostTraining = PostTraining(),  # noqa: B008 - frozen
    task: Task | Loss = Classification(),  # noqa: B008 - frozen
    seed: int = 0,
    keep: str | Iterable[str] = (),
    out: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    dynamic: Any = None,
) -> Compressed:
    """Compress a trained network as it is, from a few hundred inputs without labels.

    Args:
        model: The trained network.
        calibrate: Batches of inputs like those that the network will get; labels in them are not needed.
        target: ``Target(max_kl=0.01)``: nats per term that the predictions may be from the original's,
            measured on a quarter of the inputs, which decides nothing else; ``Target(max_bytes=30_000)``:
            length of the file; or, with ``validate``, ``Target(max_drop=0.5)`` in the metric's unit.
        validate: Batches with labels that the metric is measured on; never the test set.
        method: The settings of the search and of the rounding.
        task: The task, or a plain loss function (which says nothing of divergences: ``method.divergence``).
        seed: Which inputs measure, and the noise that measures sensitivities.
        keep: Parameters, or modules, that end up in the file as they are.
        out: A run folder: ``model.lac`` and ``record.json``.
        progress: Shows the progress (None: one line, on a terminal).
        dynamic: The axes that are free in the file (see ``laconic.save``).

    Returns:
        The compressed network. Its facts hold the price, the measured divergence, bits per weight, what was
        tried, and whether the target was met.

    Raises:
        DataError: No batch, inputs that are NaN, infinite or all alike, outputs that are.
        ModelError, InputError: A network, an input or a task that does not fit; no target.
        RunFolderError, WriteError: A folder that holds a run, the disk.

    >>> import torch, laconic
    >>> net, x = torch.nn.Linear(8, 4), torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    >>> small = laconic.compress_trained(net, [x], laconic.methods.Target(max_kl=0.01))
    >>> small.facts["divergence"] <= 0.01, small.facts["bits_per_weight"] < 16
    (True, True)
    """
    job = Job((Stage(method, FitConfig(epochs=0)),), target, seed, Policy.of(keep).keep, as_task(task))
    if out is None:
        return told(job, replace(run_trained(model, calibrate, validate, job, progress), dynamic=dynamic))
    with open_run(Path(out), settings_of(job), goes_on=False) as folder:
        done = replace(run_trained(model, calibrate, validate, job, progress), dynamic=dynamic)
        record = write_results(done, job, folder, {})
        return told(job, done, record.file_bytes)


def run_trained(
    model: nn.Module,
    calibrate: Loader,
    validate: Loader | None,
    job: Job,
    progress: Progress | None = None,
) -> Compressed:
    """What :func:`compress_trained` does before anything is written; raises what it raises.

    A network that draws random numbers in evaluation mode draws the same ones for the same seed.
    """
    with global_noise(job.seed, 0):
        return _run_trained(model, calibrate, validate, job, progress or StepsProgress())


def _run_trained(
    model: nn.Module, calibrate: Loader, validate: Loader | None, job: Job, show: Progress
) -> Compressed:
    method, task = job.stages[-1].method, job.task
    check_target(job.target, validate)
    with at("compress: calibrate"):
        if isinstance(calibrate, Tensor):
            raise InputError(
                f"one tensor of the shape {tuple(calibrate.shape)}, whose rows would be batches. "
                "Cure: [inputs]"
            )
        again = reread(calibrate)
    model, notes = plain_network(model, "compress")
    task = known_likelihood(model, task, again, validate, method)
    with at("compress: the first calibration batch"):
        example = small_example(model, first_inputs(model, again(), task), task.batch_axis)
    judge = Judge(_unscored, None, job.target, task.metric)
    facts: dict[str, Any] = {}
    if validate is not None:
        learnt = likelihood_start(model, task, reread(validate))
        original = score_original(model, validate, task, learnt)
        show.say(f"original: validation {task.metric.name} {task.metric.show(original.metric)}")
        judge = Judge(partial(_score, validate, task, learnt), original, job.target, task.metric)
        facts = {"original_validation_metric": original.metric, "original_validation_nll": original.nll}
    net = api.prepare(
        model,
        method,
        example,
        data_size=getattr(method, "examples", 1),
        task=task,
        seed=job.seed,
        keep=job.keep,
        batches=calibrate,
    )
    show.say("searching the price on the calibration inputs")
    small = api.decide(net, judge)
    metric = task.metric
    told_metric = {"name": metric.name, "unit": metric.unit, "higher_is_better": metric.higher_is_better}
    every = list(dict.fromkeys([*notes, *small.facts.get("notes", ())]))
    facts = {"metric": told_metric, "weights_before": count_weights(model), **facts, "notes": every}
    return replace(small, facts={**small.facts, **facts})


def check_target(target: Target, validate: Loader | None) -> None:
    """Raises InputError or DataError for no target, and for one that needs labels where there are none."""
    if target == Target():
        raise InputError(
            "compress: there is no target. Cure: Target(max_kl=0.01), Target(max_bytes=30_000), or "
            "Target(max_drop=0.5) with validate"
        )
    if target.max_drop is not None and validate is None:
        raise DataError(
            f"compress: a drop of {target.max_drop:g} can be measured on labels only, and there are none. "
            "Cure: validate=batches with labels, or Target(max_kl=0.01), which needs none"
        )


def known_likelihood(
    model: nn.Module,
    task: Task,
    calibrate: Callable[[], Iterable[Any]],
    validate: Loader | None,
    method: Method,
) -> Task:
    """The task with its likelihood's own parameters, as a noise, known where no calibration input has labels.

    They come from the first labelled validation batch. Raises InputError where there is none either; a
    divergence of the user's own does not need them.
    """
    start = task.learnt(None)
    if not start or has_target(model, calibrate(), task):
        return task
    if validate is not None:
        return task.fixed(likelihood_start(model, task, reread(validate)))
    if getattr(method, "divergence", None) is not None:
        return task.fixed(start)
    raise InputError(
        f"compress: {type(task).__name__} learns {', '.join(start)} from targets, and neither the "
        "calibration inputs nor validation batches have any. Cure: give it, as Regression(noise=0.5) (--set "
        "task.noise=0.5), in the target's unit; or batches (inputs, targets); or validate=labelled batches"
    )


def _score(validate: Loader, task: Task, learnt: dict[str, Tensor], network: nn.Module) -> Score:
    return evaluate(network, validate, task, learnt)


def _unscored(network: nn.Module) -> Score:
    raise DataError("there are no labels to score a network on. Cure: validate=batches with labels")
