"""``laconic compress``: from a network to a scored file, in a run folder that can be resumed."""

from __future__ import annotations

import copy
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from laconic import pack
from laconic.cli.array_checks import told_types
from laconic.cli.array_files import check_arguments
from laconic.cli.choices import make_job, make_reference
from laconic.cli.cures import CALIBRATING, COMPRESS, in_options, translated
from laconic.cli.loaders import Loader, Loaders, make_calibration, make_loaders
from laconic.cli.own import own_function
from laconic.cli.picture import write_picture
from laconic.cli.quality import quality, quality_text
from laconic.cli.readers import run_inspect
from laconic.cli.request import Request
from laconic.cli.scoring import score_batches
from laconic.cli.sources import array_file, is_own, is_pretrained, network_named
from laconic.errors import DataError, LaconicError, ModelError, RunFolderError
from laconic.export import restore
from laconic.methods.common.merit import merit_text
from laconic.methods.common.removal import remove_dead_units
from laconic.methods.common.units import units_text
from laconic.methods.contract import Compressed
from laconic.progress import show_by_default
from laconic.records import RunRecord
from laconic.saving import quantize_activations
from laconic.tasks import Task
from laconic.text import counted, ratio_text
from laconic.train.calibrated import check_target, run_trained
from laconic.train.checkpoint import load_checkpoint, save_checkpoint
from laconic.train.compress import run_job
from laconic.train.denormals import denormals_as_zero
from laconic.train.evaluate import evaluate
from laconic.train.fit import FitConfig, Hooks, fit
from laconic.train.job import Job
from laconic.train.progress import Progress, for_stream
from laconic.train.record import from_json
from laconic.train.results import TARGET_MISSED, write_results
from laconic.train.resume import load_weights
from laconic.train.run_folder import (
    MODEL_FILE,
    RECORD_FILE,
    REFERENCE,
    REFERENCE_CHECKPOINT,
    RunFolder,
    check_free,
    open_run,
)
from laconic.train.start import check_start
from laconic.zoo.registry import find_network

MISSED = 3
"""The exit status of a run whose target was missed."""


@denormals_as_zero()
def run_compress(request: Request, *, resume: bool = False) -> int:
    """Run the command; prints what it did and where the file is.

    Returns 0, or :data:`MISSED` where the file misses the target, which is then the last line printed.
    """
    if not resume:  # before networks, data and methods of the user's own are imported
        check_free(request.out, goes_on=request.calibrate is None)
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    job = make_job(request)
    reference = make_reference(request)
    # A user's own module may change the current folder; a misspelt name is refused before a folder is made.
    own = request.model is not None or is_own(request.data) or is_own(request.calibrate)
    root = request.out.absolute() if own else request.out
    named = ((request.model, "--model"), (request.data, "--data"), (request.calibrate, "--calibrate"))
    for text, flag in named:
        if text is not None and is_own(text):
            own_function(text, flag)
    show = for_stream(sys.stderr)
    settings = request.record(job, reference)
    with (
        in_options(COMPRESS if request.calibrate is None else CALIBRATING),
        open_run(
            root, settings, resume=resume, request=request.asked, goes_on=request.calibrate is None
        ) as folder,
        show_by_default(),
    ):
        if folder.path(RECORD_FILE).exists():
            show.say(f"{folder.root} is finished already")
            run_inspect(str(folder.path(MODEL_FILE)))
            return _status(request, job, from_json(folder.read_json(RECORD_FILE) or {}))
        if resume and not folder.work():
            show.say(f"{folder.root} holds nothing to go on with: a new run begins")
        if request.calibrate is None:
            loaders = make_loaders(request, job.task)
            model = trained_model(request, loaders, reference, job.task, folder, show)
            small = run_job(model, loaders.train, loaders.validation, job, folder=folder, progress=show)
        else:
            loaders = make_calibration(request, job.task)
            check_target(job.target, loaders.validation or None)
            model = trained_model(request, loaders, reference, job.task, folder, show)
            check_arguments(request.calibrate, loaders.train, model, pretrained=is_pretrained(request.model))
            with told_types(request.calibrate):
                small = run_trained(model, loaders.train, loaders.validation or None, job, show)
        small = replace(small, dynamic=request.dynamic)
        if request.shrink:
            show.say("removing dead units")
            small = remove_dead_units(small)
        if request.int8:
            show.say("calibrating for int8 on training batches")
            small = quantize_activations(small, loaders.train)
        show.say("packing")
        record = finish_run(request, job, folder, loaders, model, small)
    return _status(request, job, record)


def _status(request: Request, job: Job, record: RunRecord) -> int:
    """Whether the target was met, as an exit status; the last line that is printed says so."""
    missed = [note for note in record.notes if note.startswith(TARGET_MISSED)]
    for note in missed:
        print(translated(note))
    if request.target is not None and not missed:
        print(f"target {request.target} met: {_reached(job, record)}")
    return MISSED if missed else 0


def _measured(record: RunRecord) -> str:
    """On how many inputs the predictions were compared, where the record says it."""
    count = record.facts.get("divergence_examples")
    return "" if count is None else f", on {counted(count, 'input')}"


def _reached(job: Job, record: RunRecord) -> str:
    """The target's quantity as it was reached."""
    if job.target.max_bytes is not None:
        return f"the file has {record.file_bytes} of at most {job.target.max_bytes} bytes"
    if job.target.max_kl is not None:
        found = record.metrics["divergence"]
        return (
            f"{found:.3g} nats per term from the original's predictions, of at most {job.target.max_kl:.3g}"
            f"{_measured(record)}"
        )
    metric = job.task.metric
    before, after = (record.metrics[f"{when}validation_metric"] for when in ("original_", ""))
    return f"validation {metric.name} {metric.show(before)} before, {metric.show(after)} after"


def trained_model(
    request: Request,
    loaders: Loaders,
    reference: FitConfig | None,
    task: Task,
    folder: RunFolder,
    show: Progress,
) -> nn.Module:
    """The network to compress: the user's own, or a built-in one trained here once (kept in the folder)."""
    if request.model is not None:
        own = network_named(request.model, "--model")
        if not isinstance(own, nn.Module):
            raise ModelError(
                f"--model {request.model} returned an object of type {type(own).__name__}. "
                "Cure: return a torch.nn.Module"
            )
        return own
    network = find_network(request.network or "")
    model = network.build(torch.Generator().manual_seed(request.seed))
    done = folder.path(REFERENCE)
    state = load_checkpoint(done)
    if state is None:
        show.say(f"training the reference {request.network}")
        checkpoint = folder.path(REFERENCE_CHECKPOINT)
        check_start(model, loaders.train, task)
        fit(
            model,
            loaders.train,
            reference or FitConfig(seed=request.seed),
            Hooks.plain(model, task),
            task=task,
            checkpoint=checkpoint,
            progress=show,
        )
        save_checkpoint(done, model.state_dict())
        checkpoint.unlink(missing_ok=True)
    else:
        load_reference(model, state, done)
    return model


def load_reference(model: nn.Module, state: dict[str, Any], path: Path) -> None:
    """Load a trained reference; a file that does not hold this network's weights is a RunFolderError."""
    try:
        load_weights(model, state)
    except (LaconicError, RuntimeError) as error:
        reason = " ".join(str(error).split()).partition(" Cure:")[0]
        raise RunFolderError(
            f"{path} does not hold the weights of this {type(model).__name__}: {reason}. "
            "Cure: delete it, and --resume: the reference is trained again"
        ) from error


def finish_run(
    request: Request, job: Job, folder: RunFolder, loaders: Loaders, model: nn.Module, small: Compressed
) -> RunRecord:
    """Write the file and its record; the test set is used here, once, on the decoded file."""
    metrics: dict[str, float] = {}
    path = folder.path(MODEL_FILE)
    write_results(small, job, folder, metrics, final=False)
    if loaders.test is not None:
        metrics["original_test_metric"] = tested(model, loaders.test, job.task, small)
        metrics.update(score_test(request, path, loaders.test, model, job.task, small))
        if is_runnable(path):
            metrics.update(quality(path, model, loaders.test, job.task))
    record = write_results(small, job, folder, metrics)
    run_inspect(str(path), ratio=False)
    _print_scores(job, record, " in int8" if request.int8 else "")
    if told := quality_text(record.metrics):
        print(told)
    print(ratio_text(record.bytes_before, record.file_bytes, "the original network's"))
    for line in (units_text(record.facts), merit_text(record.facts)):
        if line:
            print(line)
    _print_notes(record)
    print(f"file: {path}\nrecord: {folder.path(RECORD_FILE)}")
    if request.picture:
        print(write_picture(request, folder, record, job, model, small.module))
    return record


def _print_notes(record: RunRecord) -> None:
    """What became of a grid's allowances, and the notes: below the table, which is long."""
    told = record.facts.get("grid_outcome", "")
    if told and told not in record.notes:
        print(told)
    for note in record.notes:
        if not note.startswith(TARGET_MISSED):  # that comes last
            print(f"note: {translated(note)}")


def _print_scores(job: Job, record: RunRecord, arithmetic: str) -> None:
    """The metric before and after, in its unit, on the sets that there were."""
    metric = job.task.metric
    for name, where in (("validation", ""), ("test", f", from the decoded file{arithmetic}")):
        before, after = (record.metrics.get(f"{w}{name}_metric") for w in ("original_", ""))
        if before is not None and after is not None:
            print(f"{name} {metric.name} {metric.show(before)} before, {metric.show(after)} after{where}")


def score_test(
    request: Request, path: Path, test: Loader, model: nn.Module, task: Task, small: Compressed
) -> dict[str, float]:
    """The file's score on the test set: without torch where the file holds a graph, else restored."""
    if not is_runnable(path):
        module = small.module if small.architecture_changed else model
        return {
            "test_metric": tested(
                restore(path, copy.deepcopy(module), limits=pack.Limits.trusted()), test, task, small
            )
        }
    own = ":" in request.data or array_file(request.data)
    own = own or request.task != "classification" or bool(request.task_settings)
    if own:
        score = score_batches(path, test, task, trusted=True)
    else:
        score = verify_in_fresh_process(path, request.data)
    told = {"test_metric": "value", "test_nll": "nll", "test_terms": "terms"}
    return {name: float(score[key]) for name, key in told.items() if score[key] is not None}


def tested(model: nn.Module, test: Loader, task: Task, small: Compressed) -> float:
    """The metric; NaN among the outputs, of which none can be read, is a DataError."""
    learnt = {name: torch.tensor(value) for name, value in small.facts.get("likelihood", {}).items()}
    score = evaluate(model, test, task, learnt)
    if math.isnan(score.nll):
        raise DataError(
            "the test set: the loss is NaN. Cure: look for NaN in its inputs, or for values that were not "
            "scaled as in training; then --resume"
        )
    return score.metric


def is_runnable(path: Path) -> bool:
    """Whether the file holds a graph."""
    return pack.read(path, limits=pack.Limits.trusted()).graph is not None


def verify_in_fresh_process(path: Path, data: str) -> dict[str, Any]:
    """Score the file in a process of its own that never imports torch."""
    command = [sys.executable, "-m", "laconic", "verify", str(path), "--data", data, "--json", "--trusted"]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), check=False)
    if done.returncode != 0:
        raise LaconicError(f"verifying {path} in a fresh process failed: {done.stderr.strip()}")
    score = dict(json.loads(done.stdout.strip().splitlines()[-1]))
    if score["torch_imported"]:
        raise LaconicError("verify imported torch: the runtime must not need it")
    return score
