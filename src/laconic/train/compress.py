"""One call from a trained network to a .lac file: prepare, fit, convert, save, record."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sized
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from laconic import api
from laconic.bayes.prepare import check_model, means_only
from laconic.errors import DataError, ModelError, at
from laconic.methods.contract import Compressed, Judge, Method, Score, Target
from laconic.records import RunRecord
from laconic.train.evaluate import Loss, check_labels, evaluate
from laconic.train.fit import FitConfig, Hooks, fit
from laconic.train.progress import Progress, SilentProgress
from laconic.train.record import layer_records, to_json, versions
from laconic.train.run_folder import RunFolder, open_run

MODEL_FILE = "model.lac"
RECORD_FILE = "record.json"
CHECKPOINT = "checkpoint.pt"

Loader = Iterable[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Job:
    """What one compression is asked to do; everything in it goes into the run's record."""

    method: Method
    target: Target = Target()
    fit: FitConfig = FitConfig()
    seed: int = 0


def compress(
    model: nn.Module,
    train: Loader,
    validate: Loader,
    method: Method,
    target: Target = Target(),  # noqa: B008 - frozen
    *,
    fit: FitConfig = FitConfig(),  # noqa: B008 - frozen
    seed: int = 0,
    data_size: int | None = None,
    loss: Loss = F.cross_entropy,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Compressed:
    """Compress a trained classifier with our own loop; returns the network, its integers and its record.

    ``train`` and ``validate`` are loaders of (inputs, class indices); settings are chosen on
    ``validate``. ``data_size`` is the number of training examples (counted if not given). With ``out`` a
    run folder is kept: ``model.lac``, ``record.json``, a log and checkpoints; ``resume=True`` goes on
    after a kill and ends in the same file. Raises DataError (empty loader, labels out of range),
    ModelError, InputError, RunFolderError, NonFiniteError, WriteError.

    >>> import torch, laconic
    >>> from laconic.methods import MagnitudePruning
    >>> from laconic.train.fit import FitConfig
    >>> x, y = torch.eye(4).repeat(8, 1), torch.arange(4).repeat(8)
    >>> net = laconic.compress(torch.nn.Linear(4, 4), [(x, y)], [(x, y)], MagnitudePruning(0.5),
    ...                        fit=FitConfig(epochs=2))
    >>> sorted(net.tensors)
    ['bias', 'weight']
    """
    job = Job(method, target, fit, seed)
    if out is None:
        return run_job(model, train, validate, job, data_size=data_size, loss=loss, progress=progress)
    with open_run(Path(out), settings_of(job), resume=resume) as folder:
        done = run_job(
            model, train, validate, job, data_size=data_size, loss=loss, folder=folder, progress=progress
        )
        write_results(done, job, folder, {})
        return done


def run_job(
    model: nn.Module,
    train: Loader,
    validate: Loader,
    job: Job,
    *,
    data_size: int | None = None,
    loss: Loss = F.cross_entropy,
    folder: RunFolder | None = None,
    progress: Progress | None = None,
) -> Compressed:
    """Prepare, fit (from the folder's checkpoint if there is one) and convert."""
    show = progress or SilentProgress()
    example = check_start(model, train)
    size = data_size if data_size is not None else count_examples(train)
    with at("compress: the original network on the validation split"):
        original = evaluate(model, validate, loss)
    show.say(f"original: validation error {100 * original.error:.2f} %")
    steps = job.fit.epochs * len(train) if isinstance(train, Sized) else None
    net = api.prepare(model, job.method, example, data_size=size, seed=job.seed, total_steps=steps)
    checkpoint = folder.path(CHECKPOINT) if folder else None
    log = folder.log if folder else lambda text: None
    fit(
        net,
        train,
        job.fit,
        Hooks.prepared(net),
        loss=loss,
        checkpoint=checkpoint,
        progress=show,
        on_epoch=lambda epoch, value: log(f"epoch {epoch + 1}/{job.fit.epochs} loss {value:.5f}"),
    )
    show.say("choosing the grid on the validation split")
    small = api.convert(net, Judge(lambda m: evaluate(m, validate, loss), original, job.target))
    return _with_facts(small, original, size)


def check_start(model: nn.Module, train: Loader) -> Tensor:
    """Two inputs of the first training batch, once it is sure that the network can learn from it.

    Refuses before any time is spent: ModelError (no parameters, NaN weights), InputError (inputs of a shape
    that the network does not take), DataError (an empty loader, no pairs, labels the network cannot have).
    """
    batch = next(iter(train), None)
    if batch is None:
        raise DataError("compress: the training loader is empty. Cure: check its data set and batch size")
    pair = isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(t, Tensor) for t in batch)
    if not pair:
        raise DataError(
            f"compress: the training loader gave a {type(batch).__name__}, not a pair of tensors. "
            "Cure: batches are (inputs, class indices)"
        )
    example, labels = batch[0][:2], batch[1]
    with at("compress: the first training batch"):
        check_model(model, example)
        check_labels(labels, _classes(model, example))
    return example


def _classes(model: nn.Module, example: Tensor) -> int:
    """Number of classes that the network tells apart: the size of its output's second dimension."""
    with means_only(model), torch.no_grad():
        out = model(example.to(next(model.parameters()).device))
    if not isinstance(out, Tensor) or out.ndim < 2:
        shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise ModelError(f"a classifier's output is (batch, classes), got {shape}. Cure: return its logits")
    return int(out.shape[1])


def _with_facts(small: Compressed, original: Score, data_size: int) -> Compressed:
    facts = {**small.facts, "original_validation_error": original.error, "data_size": data_size}
    return Compressed(small.module, small.tensors, facts, small.example)


def count_examples(loader: Loader) -> int:
    """Training examples behind a loader: its ``data_size``, its data set's length, or one counting pass."""
    size = getattr(loader, "data_size", None)
    if isinstance(size, int):
        return size
    dataset = getattr(loader, "dataset", None)
    return len(dataset) if isinstance(dataset, Sized) else sum(len(y) for _, y in loader)


def write_results(
    small: Compressed,
    job: Job,
    folder: RunFolder,
    metrics: dict[str, float],
    *,
    final: bool = True,
) -> RunRecord:
    """Write model.lac and, if ``final``, record.json into the run folder; returns the record."""
    path = folder.path(MODEL_FILE)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        length = api.save(small, path)
    notes = tuple(str(w.message) for w in caught if w.category is UserWarning)
    notes += missed(job.target, small, length)
    facts = {k: v for k, v in small.facts.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    record = RunRecord(
        settings=settings_of(job),
        seed=job.seed,
        versions=versions(),
        layers=layer_records(small.tensors, path.read_bytes()),
        metrics={**facts, **metrics},
        file_bytes=length,
        bytes_before=sum(4 * p.numel() for p in small.module.parameters()),
        notes=notes,
    )
    if final:
        folder.write_json(RECORD_FILE, to_json(record))
    return record


def missed(target: Target, small: Compressed, file_bytes: int) -> tuple[str, ...]:
    """What was asked for and not reached, in words: a target is met as well as the training allows."""
    notes = []
    if target.max_bytes is not None and file_bytes > target.max_bytes:
        notes.append(
            f"target missed: the file has {file_bytes} bytes, {target.max_bytes} were asked for. "
            "Cure: a higher kl_weight or sparsity, or longer training"
        )
    after, before = small.facts.get("validation_error"), small.facts.get("original_validation_error")
    if target.max_drop is not None and after is not None and before is not None:
        drop = 100 * (after - before)
        if drop > target.max_drop + 1e-9:
            notes.append(
                f"target missed: {drop:.2f} points of validation error were lost, {target.max_drop:g} were "
                "allowed. Cure: a lower kl_weight or sparsity, or longer training"
            )
    return tuple(notes)


def settings_of(job: Job) -> dict[str, Any]:
    """The job as plain data: the method's name and every field of every configuration."""
    method: dict[str, Any] = (
        asdict(job.method) if is_dataclass(job.method) and not isinstance(job.method, type) else {}
    )
    return {
        "method": type(job.method).__name__,
        "method_settings": method,
        "target": asdict(job.target),
        "fit": asdict(job.fit),
        "seed": job.seed,
    }
