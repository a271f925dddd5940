"""``laconic compress``: the whole way from a network to a scored file, in a run folder that resumes."""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from laconic import pack
from laconic.cli.choices import NETWORKS, make_job, make_reference, parse_value, pick, preset
from laconic.cli.own import own_function
from laconic.cli.readers import run_inspect, score_batches
from laconic.data import TensorLoader, load, split
from laconic.errors import InputError, LaconicError, ModelError
from laconic.export import restore
from laconic.train.checkpoint import load_checkpoint, save_checkpoint
from laconic.train.compress import (
    MODEL_FILE,
    RECORD_FILE,
    Job,
    check_start,
    run_job,
    settings_of,
    write_results,
)
from laconic.train.evaluate import evaluate
from laconic.train.fit import FitConfig, Hooks, fit
from laconic.train.progress import Progress, for_stream
from laconic.train.run_folder import RunFolder, open_run
from laconic.zoo import LENET5_MNIST

Loader = Iterable[tuple[Tensor, Tensor]]
OPTIONS = ("network", "model", "data", "method", "preset", "target", "seed", "out", "threads")


@dataclass(frozen=True)
class Request:
    """What was asked for, from the command line over the run file over the defaults."""

    network: str | None
    model: str | None
    data: str
    method: str
    target: str | None
    seed: int
    out: Path
    settings: Mapping[str, Any]
    threads: int | None = None

    def record(self, job: Job, reference: FitConfig | None) -> dict[str, Any]:
        """What identifies the run: it must be the same on --resume."""
        asked = {"network": self.network, "model": self.model, "data": self.data}
        data = {k: v for k, v in self.settings.items() if k.startswith("data.")}
        trained = None if reference is None else vars(reference)
        return {**asked, **data, **settings_of(job), "reference": trained}


@dataclass(frozen=True, eq=False)
class Loaders:
    """Batches for training, validation (settings are chosen on it) and, if there is one, the test set."""

    train: Loader
    validation: Loader
    test: Loader | None


def run_compress(arguments: argparse.Namespace) -> int:
    """Run the command; prints what it did and where the file is."""
    request = parse_request(arguments)
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    job = make_job(request.method, request.settings, request.target, request.seed)
    reference = make_reference(request.network, request.settings, request.seed)
    show = for_stream(sys.stderr)
    with open_run(request.out, request.record(job, reference), resume=arguments.resume) as folder:
        if folder.path(RECORD_FILE).exists():
            show.say(f"{folder.root} is finished already")
            return run_inspect(str(folder.path(MODEL_FILE)))
        loaders = make_loaders(request)
        model = trained_model(request, loaders, reference, folder, show)
        small = run_job(model, loaders.train, loaders.validation, job, folder=folder, progress=show)
        show.say("packing")
        finish_run(request, job, folder, loaders, model, small)
    return 0


def parse_request(arguments: argparse.Namespace) -> Request:
    """Merge flags, run file and defaults; unknown names in the run file are errors."""
    values, settings = _run_file(arguments.config)
    values.update({k: getattr(arguments, k) for k in OPTIONS if getattr(arguments, k, None) is not None})
    network, model = values.get("network"), values.get("model")
    if (network is None) == (model is None):
        raise InputError(
            "name one network: a built-in one (lenet5) or your own with --model package.module:function"
        )
    method = values.get("method", "sparse-vd")
    data = values.get("data") or (pick(NETWORKS, network, "network").data if network else None)
    if data is None:
        raise InputError("--model needs --data: mnist, fashion-mnist, digits or package.module:function")
    chosen = preset(values.get("preset", "full"), method, network)
    chosen.update(settings)
    for text in arguments.set:
        key, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set {text!r} should read KEY=VALUE")
        chosen[key] = parse_value(value)
    seed, threads = values.get("seed", 0), values.get("threads")
    if seed < 0 or (threads is not None and threads < 1):
        raise InputError(f"seed must be >= 0 and threads >= 1, got {seed} and {threads}")
    name = network or str(model).split(":")[-1]
    out = Path(values.get("out") or Path("runs") / f"{name}-{method}")
    return Request(network, model, data, method, values.get("target"), seed, out, chosen, threads)


def _run_file(path: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options and dotted settings of a TOML run file."""
    if path is None:
        return {}, {}
    try:
        tree = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"run file {path}: {error}") from error
    settings = _flatten(tree.pop("settings", {}))
    unknown = sorted(set(tree) - set(OPTIONS))
    if unknown:
        known = ", ".join((*OPTIONS, "settings"))
        raise InputError(f"run file {path}: unknown name {unknown[0]!r}. Cure: one of {known}")
    for name, value in tree.items():
        kind = int if name in ("seed", "threads") else str
        if isinstance(value, bool) or not isinstance(value, kind):
            raise InputError(f"run file {path}: {name} must be {kind.__name__}, got {value!r}")
    return tree, settings


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(
            _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
        )
    return flat


def make_loaders(request: Request) -> Loaders:
    """Built-in data split with the run's seed, or what the user's function returns."""
    if ":" in request.data:
        found = own_function(request.data, "--data")()
        if not isinstance(found, tuple) or len(found) not in (2, 3):
            raise InputError(
                f"--data {request.data} should return (train, validation) or (train, validation, test)"
            )
        return Loaders(found[0], found[1], found[2] if len(found) == 3 else None)
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


def batch_size(settings: Mapping[str, Any], usual: int) -> int:
    """The ``data.batch_size`` asked for; any other ``data.`` setting is an error."""
    asked = {k: v for k, v in settings.items() if k.startswith("data.")}
    value = asked.pop("data.batch_size", usual)
    if asked:
        raise InputError(f"no setting is called {next(iter(asked))!r}. Cure: data.batch_size")
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"setting data.batch_size: expected int, got {value!r}")
    return value


def trained_model(
    request: Request, loaders: Loaders, reference: FitConfig | None, folder: RunFolder, show: Progress
) -> nn.Module:
    """The network to compress: the user's own, or a built-in one trained here once (kept in the folder)."""
    if request.model is not None:
        own = own_function(request.model, "--model")()
        if not isinstance(own, nn.Module):
            raise ModelError(f"--model {request.model} returned a {type(own).__name__}, not an nn.Module")
        return own
    network = pick(NETWORKS, request.network or "", "network")
    model: nn.Module = network.build(torch.Generator().manual_seed(request.seed))
    done = folder.path("reference.pt")
    state = load_checkpoint(done)
    if state is None:
        show.say(f"training the reference {request.network}")
        checkpoint = folder.path("reference-checkpoint.pt")
        config = reference or network.reference(request.seed)
        check_start(model, loaders.train)
        fit(model, loaders.train, config, Hooks.plain(model), checkpoint=checkpoint, progress=show)
        save_checkpoint(done, model.state_dict())
        checkpoint.unlink(missing_ok=True)
    else:
        model.load_state_dict(state)
    return model


def finish_run(
    request: Request, job: Job, folder: RunFolder, loaders: Loaders, model: nn.Module, small: Any
) -> None:
    """Write the file and its record; the test set is looked at here, once, from the decoded file."""
    metrics: dict[str, float] = {}
    path = folder.path(MODEL_FILE)
    for note in write_results(small, job, folder, metrics, final=False).notes:
        print(f"note: {note}")
    if loaders.test is not None:
        metrics["original_test_error"] = evaluate(model, loaders.test).error
        metrics.update(score_test(path, request.data, loaders.test, model))
    record = write_results(small, job, folder, metrics)
    run_inspect(str(path))
    print(f"validation error {100 * record.metrics['original_validation_error']:.2f} % before, ", end="")
    print(f"{100 * record.metrics['validation_error']:.2f} % after")
    if "original_test_error" in metrics and "test_error_percent" in metrics:
        print(f"test error {100 * metrics['original_test_error']:.2f} % before, ", end="")
        print(f"{metrics['test_error_percent']:.2f} % after, from the decoded file")
    ratio = record.bytes_before / record.file_bytes
    print(f"{ratio:.1f}x smaller: {record.bytes_before} -> {record.file_bytes} bytes")
    print(f"file: {path}\nrecord: {folder.path(RECORD_FILE)}")


def score_test(path: Path, data: str, test: Loader, model: nn.Module) -> dict[str, float]:
    """The file's error on the test set: without torch where the file holds a graph, else restored."""
    if not is_runnable(path):
        return {"test_error_percent": 100 * evaluate(restore(path, copy.deepcopy(model)), test).error}
    if ":" in data:
        score = score_batches(path, ((x.numpy(), y.numpy()) for x, y in test))
    else:
        score = verify_in_fresh_process(path, data)
    return {f"test_{k}": float(score[k]) for k in ("error_percent", "nll", "wrong", "examples")}


def is_runnable(path: Path) -> bool:
    """Whether the file holds a graph."""
    return pack.read(path).graph is not None


def verify_in_fresh_process(path: Path, data: str) -> dict[str, Any]:
    """Score the file in a process of its own that never imports torch."""
    command = [sys.executable, "-m", "laconic", "verify", str(path), "--data", data, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), check=False)
    if done.returncode != 0:
        raise LaconicError(f"verifying {path} in a fresh process failed: {done.stderr.strip()}")
    score = dict(json.loads(done.stdout.strip().splitlines()[-1]))
    if score["torch_imported"]:
        raise LaconicError("verify imported torch: the runtime must not need it")
    return score
