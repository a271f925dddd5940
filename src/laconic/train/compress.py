"""One call from a trained network to a .lac file: prepare, fit, convert, save, record."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import asdict, dataclass, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from laconic import api, pack
from laconic.bayes.policy import Policy
from laconic.bayes.prepare import check_model, means_only
from laconic.errors import DataError, InputError, ModelError, ScaleError, at
from laconic.export.capture import shared_names
from laconic.methods.contract import Compressed, Judge, Method, Score, Target
from laconic.modules import plain_network
from laconic.records import RunRecord
from laconic.train.evaluate import Loss, check_labels, evaluate
from laconic.train.fit import FitConfig, Hooks, fit
from laconic.train.history import recorder
from laconic.train.layout import plain
from laconic.train.progress import Progress, StepsProgress
from laconic.train.record import layer_records, to_json, versions
from laconic.train.run_folder import CHECKPOINT, MODEL_FILE, RECORD_FILE, RunFolder, open_run

UNASKED = 0.01
"""A rise of the validation error, as a share, that is told although nobody set a target."""

Loader = Iterable[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Job:
    """What one compression is asked to do; everything in it goes into the run's record."""

    method: Method
    target: Target = Target()
    fit: FitConfig = FitConfig()
    seed: int = 0
    keep: tuple[str, ...] = ()


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
    keep: str | Iterable[str] = (),
    loss: Loss = F.cross_entropy,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    dynamic: Any = None,
) -> Compressed:
    """Compress a trained classifier with our own loop; returns the network, its integers and its record.

    ``train`` and ``validate`` are loaders of (inputs, class indices); settings are chosen on
    ``validate``. ``data_size`` is the number of training examples (counted if not given). ``keep`` names
    parameters, or modules, that end up in the file as they are (see ``laconic.prepare``). With ``out`` a
    run folder is kept: ``model.lac``, ``record.json``, a log and checkpoints; ``resume=True`` goes on
    after a kill and ends in the same file. ``dynamic`` are the axes that are free in the file (see
    ``laconic.save``). A network on a GPU is trained there. Raises DataError (empty
    loader, labels out of range), ModelError, InputError, ScaleError (a ``data_size`` that is not the
    loader's), RunFolderError, NonFiniteError, WriteError.

    >>> import torch, laconic
    >>> from laconic.methods import MagnitudePruning
    >>> from laconic.train.fit import FitConfig
    >>> x, y = torch.eye(4).repeat(8, 1), torch.arange(4).repeat(8)
    >>> net = laconic.compress(torch.nn.Linear(4, 4), [(x, y)], [(x, y)], MagnitudePruning(0.5),
    ...                        fit=FitConfig(epochs=2))
    >>> sorted(net.tensors)
    ['bias', 'weight']
    """
    job = Job(method, target, _where_it_is(model, fit), seed, Policy.of(keep).keep)
    if out is None:
        done = run_job(model, train, validate, job, data_size=data_size, loss=loss, progress=progress)
        return replace(done, dynamic=dynamic)
    with open_run(Path(out), settings_of(job), resume=resume) as folder:
        done = run_job(
            model, train, validate, job, data_size=data_size, loss=loss, folder=folder, progress=progress
        )
        done = replace(done, dynamic=dynamic)
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
    show = progress or StepsProgress()
    model, folded = plain_network(model, "compress")
    example = check_start(model, train, loss)
    size = data_size if data_size is not None else count_examples(train)
    _check_size(size, train)
    original = _score_original(model, validate, loss)
    show.say(f"original: validation error {100 * original.error:.2f} %")
    notes = (*folded, *unfinished(job.method, job.fit.epochs), *frozen(model, job.keep))
    for note in notes:
        show.say(note)
    steps = job.fit.epochs * len(train) if isinstance(train, Sized) else None
    net = api.prepare(
        model, job.method, example, data_size=size, seed=job.seed, total_steps=steps, keep=job.keep
    )
    checkpoint = folder.path(CHECKPOINT) if folder else None
    fit(
        net,
        train,
        job.fit,
        Hooks.prepared(net),
        loss=loss,
        checkpoint=checkpoint,
        progress=show,
        on_epoch=_watcher(net, validate, job, loss, folder),
    )
    show.say("choosing the grid on the validation split")
    small = api.convert(net, Judge(lambda m: evaluate(m, validate, loss), original, job.target))
    return _with_facts(small, original, size, notes, count_weights(model))


def _watcher(
    net: nn.Module, validate: Loader, job: Job, loss: Loss, folder: RunFolder | None
) -> Callable[[int, float], None]:
    """What is told of an epoch: a line in the run's log, a row of its history; nothing without a folder."""
    if folder is None:
        return lambda epoch, value: None
    add: Callable[[int, float], None] | None = None

    def watch(epoch: int, value: float) -> None:
        nonlocal add
        folder.log(f"epoch {epoch + 1}/{job.fit.epochs} loss {value:.5f}")
        if add is None:  # the first epoch after a resumption tells how many stand
            add = recorder(net, job.method, lambda m: evaluate(m, validate, loss), folder, epoch)
        add(epoch, value)

    return watch


def _where_it_is(model: nn.Module, fit: FitConfig) -> FitConfig:
    """``fit`` on the GPU that the model lies on; a model on the CPU goes where ``fit`` says."""
    kind = next((p.device.type for p in model.parameters()), "cpu")
    return replace(fit, accelerator=kind) if kind in ("cuda", "mps") else fit


def _score_original(model: nn.Module, validate: Loader, loss: Loss) -> Score:
    """The uncompressed network on the validation split; ModelError if its loss is no number."""
    with at("compress: the original network on the validation split"):
        score = evaluate(model, validate, loss)
        if not math.isfinite(score.nll):
            raise ModelError(
                f"its loss is {score.nll} before compression has begun. Cure: look for NaN or infinite "
                "values in its buffers (running statistics of batch norms) and in the inputs, or for a loss "
                "that overflows"
            )
    return score


def unfinished(method: Method, epochs: int) -> tuple[str, ...]:
    """What ``method`` plans for later than the last of ``epochs``, in words."""
    notes = []
    end = getattr(getattr(method, "warm_up", None), "end", None)
    if isinstance(end, int | float) and end > epochs:
        notes.append(
            f"training ends after {epochs} epochs, before the KL's warm-up does (epoch {end:g}): it never "
            f"counts in full. Cure: fit.epochs above {end:g}, or an earlier warm_up.end"
        )
    hold_from = getattr(method, "hold_from", None)
    if isinstance(hold_from, int | float) and hold_from >= epochs:
        notes.append(
            f"training ends after {epochs} epochs, so no pruned weight is ever held (hold_from={hold_from:g})"
            f". Cure: fit.epochs above {hold_from:g}, or an earlier hold_from"
        )
    return tuple(notes)


def frozen(model: nn.Module, keep: tuple[str, ...] = ()) -> tuple[str, ...]:
    """A note on the parameters that are put on a grid without being trained for it, if there are any."""
    kept = Policy(keep).keeps
    names = [name for name, p in model.named_parameters() if not p.requires_grad and not kept(name)]
    if not names:
        return ()
    count = "1 parameter is" if len(names) == 1 else f"{len(names)} parameters are"
    note = f"{count} frozen (requires_grad is False; the first is {names[0]!r}): neither trained nor pruned, "
    return (note + "but put on a grid. Cure: requires_grad_(True) to prune them, keep=[names] to leave them",)


def check_start(model: nn.Module, train: Loader, loss: Loss = F.cross_entropy) -> Tensor:
    """Two inputs of the first training batch, once it is sure that the network can learn from it.

    Refuses before any time is spent: ModelError (no parameters, NaN weights), InputError (inputs of a shape
    that the network does not take), DataError (an empty loader, no pairs or, under cross-entropy, labels
    the network cannot have).
    """
    batch = next(iter(train), None)
    if batch is None:
        raise DataError("compress: the training loader is empty. Cure: check its data set and batch size")
    pair = isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(t, Tensor) for t in batch)
    if not pair:
        raise DataError(
            f"compress: the training loader gave a {type(batch).__name__}, not a pair of tensors. "
            "Cure: batches are (inputs, class indices), one tensor each; for several inputs, laconic.prepare "
            "and a loop of your own"
        )
    example, labels = batch[0][:2], batch[1]
    with at("compress: the first training batch"):
        example = _fitting(model, example)
        classes = _classes(model, example)
        if loss is F.cross_entropy:
            check_labels(labels, classes)
    return example


def _fitting(model: nn.Module, example: Tensor) -> Tensor:
    """``example`` in a layout that the network takes (``.view`` wants a plain one); refuses other misfits."""
    try:
        check_model(model, example)
    except InputError:
        if plain(example).stride() == example.stride():
            raise
        example = plain(example)
        check_model(model, example)
    return example


def _classes(model: nn.Module, example: Tensor) -> int:
    """Number of classes that the network tells apart: the size of its output's second dimension."""
    with means_only(model), torch.no_grad():
        out = model(example.to(next(model.parameters()).device))
    if not isinstance(out, Tensor) or out.ndim < 2:
        shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise ModelError(f"a classifier's output is (batch, classes), got {shape}. Cure: return its logits")
    return int(out.shape[1])


def count_weights(model: nn.Module) -> int:
    """Numbers that its file would hold: floating-point parameters and buffers, shared ones once."""
    names = shared_names(model)
    state = model.state_dict()
    return sum(state[n].numel() for n, first in names.items() if n == first and state[n].is_floating_point())


def _with_facts(
    small: Compressed, original: Score, data_size: int, notes: tuple[str, ...], weights: int
) -> Compressed:
    facts = {**small.facts, "original_validation_error": original.error, "data_size": data_size}
    facts["weights_before"] = weights
    every = [*notes, *small.facts.get("notes", ())]
    return replace(small, facts={**facts, "notes": every} if every else facts)


def count_examples(loader: Loader) -> int:
    """Training examples behind a loader: what it knows of itself, or else one counting pass."""
    known = _known_examples(loader)
    return known if known is not None else sum(len(y) for _, y in loader)


def _known_examples(loader: Loader) -> int | None:
    """A loader's ``data_size``, or the length of what it draws from: its sampler, else its data set."""
    size = getattr(loader, "data_size", None)
    if isinstance(size, int):
        return size
    batches = getattr(loader, "batch_sampler", None)
    # A DataLoader with a batch sampler of the user's own has a sampler too, but does not ask it.
    sampler = getattr(loader if batches is None else batches, "sampler", None)
    if isinstance(sampler, Sized):
        return len(sampler)
    dataset = getattr(loader, "dataset", None) if batches is None or sampler is not None else None
    return len(dataset) if isinstance(dataset, Sized) else None


def _check_size(data_size: int, loader: Loader) -> None:
    """Refuse a ``data_size`` that is not the loader's; less than a batch may be left over (drop_last)."""
    known = _known_examples(loader)
    if known is None or not isinstance(data_size, int):
        return  # what is no whole number is refused with the other numbers that cannot be
    batch = math.ceil(known / max(1, len(loader))) if isinstance(loader, Sized) else 1
    if abs(data_size - known) >= max(1, batch):
        raise ScaleError(
            f"compress: data_size={data_size}, but the training loader draws from {known} examples. "
            f"Cure: data_size={known}, or leave it out"
        )


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
    data = path.read_bytes()
    notes = tuple(str(w.message) for w in caught if w.category is UserWarning)
    notes = (*small.facts.get("notes", ()), *notes, *missed(job.target, small, length))
    facts = {k: v for k, v in small.facts.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    record = RunRecord(
        settings=settings_of(job),
        seed=job.seed,
        versions=versions(),
        layers=layer_records(small.tensors, data),
        metrics={**facts, **metrics},
        file_bytes=length,
        bytes_before=4 * _weights_before(small, data),
        notes=notes,
    )
    if final:
        folder.write_json(RECORD_FILE, to_json(record))
    return record


def _weights_before(small: Compressed, data: bytes) -> int:
    """All that the file holds, or what the network held before it was made physically smaller."""
    held = sum(row.weights for row in pack.layout(data, limits=pack.Limits.trusted()))
    return max(held, int(small.facts.get("weights_before", 0)))


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
    if target.max_drop is None and after is not None and before is not None and after - before > UNASKED:
        notes.append(
            f"{100 * (after - before):.2f} points of validation error were lost, and no target was given. "
            "Cure: Target(max_drop=...), --target 0.3pt, a lower kl_weight or sparsity, or longer training"
        )
    return tuple(notes)


def settings_of(job: Job) -> dict[str, Any]:
    """The job as plain data: the method's name and every field of every configuration."""
    method: dict[str, Any] = (
        _plain(asdict(job.method)) if is_dataclass(job.method) and not isinstance(job.method, type) else {}
    )
    return {
        "method": type(job.method).__name__,
        "method_settings": method,
        "target": asdict(job.target),
        "fit": asdict(job.fit),
        "seed": job.seed,
        "keep": list(job.keep),
    }


def _plain(value: Any) -> Any:
    """A setting as JSON has it; functions and other objects of the user's own by their names."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_plain(item) for item in value)
    if isinstance(value, partial):
        return _plain(value.func)
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"
