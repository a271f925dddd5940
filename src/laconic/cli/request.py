"""What a compression was asked to do: flags over the run file over the defaults.

No torch: wrong options are refused before anything heavy is imported or written.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laconic.cli.fields import NO_SETTINGS, check_stage, option
from laconic.cli.free_axes import free_axes, parse_dynamic
from laconic.cli.resuming import as_data, no_network, stored_options
from laconic.cli.run_file import OPTIONS, RunFile, StageTable, read_run_file
from laconic.cli.settings import check_seed, check_threads, parse_size, parse_value
from laconic.cli.sources import array_file, check_network, check_source, short_name
from laconic.cli.unused import refuse_replaced, refuse_training, refuse_unused
from laconic.errors import InputError
from laconic.registry import NETWORKS, TASKS
from laconic.rows import row_keyword

if TYPE_CHECKING:
    from laconic.train.fit import FitConfig
    from laconic.train.job import Job


@dataclass(frozen=True)
class StageRequest:
    """One stage as it was asked for: a method's name, its dotted settings, and where it rewinds to."""

    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    rewind_to: int | None = None


@dataclass(frozen=True)
class Request:
    """What was asked for, from the command line over the run file over the defaults.

    ``settings`` are those of no stage: ``reference.*`` and ``data.*``. ``dynamic`` are the file's free axes
    as ``laconic.save`` takes them. ``asked`` are the options as they were given, from which ``--resume``
    begins again.
    """

    network: str | None
    model: str | None
    data: str
    stages: tuple[StageRequest, ...]
    target: str | None
    seed: int
    out: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    preset: str = "full"
    task: str = "classification"
    task_settings: Mapping[str, Any] = field(default_factory=dict)
    threads: int | None = None
    int8: bool = False
    shrink: bool = False
    picture: bool = True
    keep: tuple[str, ...] = ()
    dynamic: Any = None
    asked: Mapping[str, Any] = field(default_factory=dict)
    calibrate: str | None = None

    def record(self, job: Job, reference: FitConfig | None) -> dict[str, Any]:
        """What identifies the run: it must be the same on --resume.

        The number of threads is part of it, since sums of floats depend on it.
        """
        from laconic.train.job import plain_settings, settings_of

        asked = {"network": self.network, "model": self.model, "data": self.data, "threads": self.threads}
        data = {k: v for k, v in self.settings.items() if k.startswith("data.")}
        trained = None if reference is None else plain_settings(reference)
        # said only where asked, so that older run folders can be resumed
        asked |= {
            name: getattr(self, name)
            for name in ("int8", "shrink", "dynamic", "calibrate")
            if getattr(self, name)
        }
        return {**asked, **data, **settings_of(job), "reference": trained}


def parse_request(arguments: argparse.Namespace) -> Request:
    """Merge flags, run file and defaults; unknown names in the run file are errors.

    With ``--resume --out FOLDER`` the options that the folder's run began with are the run file.
    """
    file = stored_options(arguments) or read_run_file(arguments.config)
    flags = {k: getattr(arguments, k, None) for k in OPTIONS}
    flags["dynamic"] = parse_dynamic(flags["dynamic"]) if flags["dynamic"] else None
    values = _merged(file.options, flags)
    network, model = values.get("network"), values.get("model")
    if (network is None) == (model is None):
        raise no_network(arguments)
    calibrate = values.get("calibrate")
    data = values.get("data") or (_usual_data(network) if network else None)
    if data is None and calibrate is None:
        raise InputError(
            "--model needs --data or --calibrate, neither was given. Cure: --data mnist, fashion-mnist, "
            "digits or package.module:function; or --calibrate, some hundred inputs without labels (a .npz "
            "file, or a function), to compress without training"
        )
    data = data or ""
    asked = {**file.settings, **set_flags(arguments.set)}
    if calibrate is not None:
        values = _calibrated(values, file, arguments.resume)
        refuse_training(asked)
    _check_names(model, data, calibrate)
    refuse_unused(asked, model, data, calibrate)
    batch_size(asked, 1)
    _check_values(values)
    stages = _stages(values, file, asked)
    preset = values.get("preset", "full")
    for stage in stages:
        check_stage(stage.method, stage.settings, preset)
    refuse_replaced([(stage.method, stage.settings) for stage in stages], values.get("target"))
    task = values.get("task", "classification")
    TASKS.check(task)
    name = network or short_name(str(model))
    methods = "-".join(stage.method.rpartition(":")[2] for stage in stages)
    return Request(
        network=network,
        model=model,
        data=data,
        stages=stages,
        target=values.get("target"),
        seed=values.get("seed", 0),
        out=Path(values.get("out") or Path("runs") / f"{name}-{methods}"),
        settings={k: v for k, v in asked.items() if k.startswith(("reference.", "data."))},
        preset=preset,
        task=task,
        task_settings={k.removeprefix("task."): v for k, v in asked.items() if k.startswith("task.")},
        threads=values.get("threads"),
        int8=bool(values.get("int8", False)),
        shrink=bool(values.get("shrink", False)),
        picture=bool(values.get("picture", True)),
        keep=_keep(values.get("keep", ())),
        dynamic=free_axes(values.get("dynamic")),
        asked=as_data(values, asked, file),
        calibrate=calibrate,
    )


def _calibrated(values: Mapping[str, Any], file: RunFile, resume: bool) -> dict[str, Any]:
    """The options of a run without training; what only training has is refused."""
    method = values.get("method", "post-training")
    if file.stages or method != "post-training":
        raise InputError(
            "--calibrate compresses without training, by the method post-training. Cure: leave out --method "
            "and [[stage]] tables, or --data in place of --calibrate"
        )
    if resume:
        raise InputError(
            "--resume: a run with --calibrate keeps nothing to go on with. Cure: run it again, with another "
            "--out"
        )
    if values.get("target") is None:
        raise InputError(
            "--calibrate needs --target. Cure: --target 0.01nats, --target 30kB, or --target 0.5pt with "
            "labels"
        )
    if array_file(values["calibrate"]) and not values.get("data") and not values.get("network"):
        _refuse_drop(values["target"], values["calibrate"])
    if values.get("preset") is not None and values.get("model") is not None:
        raise InputError(
            "--preset says how long to train, and --calibrate compresses without training. Cure: leave it out"
        )
    return {**values, "method": method}


def _refuse_drop(target: str, calibrate: str) -> None:
    """Refuse a loss of the metric where there are inputs alone, before anything heavy is imported."""
    unit, number = parse_size(target)
    if unit not in ("B", "nats"):
        raise InputError(
            f"--target {target} is a loss of the metric, which labels tell, and {calibrate} holds inputs "
            f"alone. Cure: --target {number:g}nats (from the original's predictions), --target 30kB, or "
            "--data with labelled batches"
        )


def _keep(names: Any) -> tuple[str, ...]:
    if not all(isinstance(name, str) for name in names):
        raise InputError(f'keep: {names!r} are no names of layers. Cure: --keep head, or keep = ["head"]')
    return tuple(names)


def batch_size(settings: Mapping[str, Any], usual: int) -> int:
    """The ``data.batch_size`` asked for; any other ``data.`` setting is an error."""
    asked = {k: v for k, v in settings.items() if k.startswith("data.")}
    value = asked.pop("data.batch_size", usual)
    if asked:
        raise InputError(f"no setting is called {next(iter(asked))!r}. Cure: data.batch_size")
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"setting data.batch_size: expected int, got {value!r}. Cure: data.batch_size=100")
    if value < 1:
        raise InputError(
            f"setting data.batch_size must be at least 1, got {value}. Cure: data.batch_size=100"
        )
    return value


def _usual_data(network: str) -> str:
    """The data set that a built-in network is for, from its row; the network is not imported."""
    NETWORKS.check(network)
    place = NETWORKS.known().get(network)
    found = row_keyword(place, "data") if place else None
    return found if isinstance(found, str) else "digits"


def _stages(values: Mapping[str, Any], file: RunFile, asked: Mapping[str, Any]) -> tuple[StageRequest, ...]:
    """The stages of the run file, or the one that ``method`` names; settings go where they belong."""
    tables = file.stages or (StageTable(values.get("method", "sparse-vd")),)
    if file.stages and values.get("method") is not None:
        raise InputError(
            "a run has either a method or stages. Cure: leave out --method, or the [[stage]] tables"
        )
    own = {k: v for k, v in asked.items() if not k.startswith(("reference.", "data.", "task."))}
    for key, value in own.items():
        _check_stage_number(key, value, len(tables))
    stages = []
    for number, table in enumerate(tables, 1):
        prefix = f"stage{number}."
        mine = {k.removeprefix(prefix): v for k, v in own.items() if k.startswith(prefix)}
        common = {k: v for k, v in own.items() if not _STAGE.match(k)}
        if len(tables) > 1:
            _only_training(common)
        stages.append(StageRequest(table.method, {**table.settings, **common, **mine}, table.rewind_to))
    return tuple(stages)


_STAGE = re.compile(r"stage(\d+)\b")


def _check_stage_number(key: str, value: Any, count: int) -> None:
    """Refuse a setting of a stage that there is not, or that names no field."""
    found = _STAGE.match(key)
    if found is None:
        return
    number, rest = int(found.group(1)), key.partition(".")[2]
    if 1 <= number <= count and rest:
        return
    if 1 <= number <= count:
        raise InputError(
            f"setting {key}={value!r} names no field. Cure: {key}.fit.epochs=3, or a method's field"
        )
    kept = f"{rest or 'fit.epochs'}={value}"
    if count == 1:
        raise InputError(
            f"setting {key}={value!r}: this run has one stage. Cure: {kept}, "
            "or several [[stage]] tables in a run file"
        )
    raise InputError(f"setting {key}={value!r}: this run has {count} stages. Cure: stage{count}.{kept}")


def _only_training(settings: Mapping[str, Any]) -> None:
    for key, value in settings.items():
        if not key.startswith("fit."):
            if key in NO_SETTINGS:
                raise InputError(
                    f"there is no setting {key!r} (from {key}={value!r}). Cure: {option(key, value)}"
                )
            raise InputError(
                f"setting {key} belongs to a method, and this run has several. Cure: stage1.{key}"
            )


def _check_values(values: Mapping[str, Any]) -> None:
    if values.get("target") is not None:
        parse_size(values["target"])
    check_seed(values.get("seed", 0))
    check_threads(values.get("threads"))


def _check_names(model: str | None, data: str, calibrate: str | None) -> None:
    """Refuse what can be no name of a function or a data set."""
    if model is not None:
        check_network(model)
    for name, flag in ((data, "--data"), (calibrate or "", "--calibrate")):
        check_source(name, flag)


def _merged(from_file: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """Flags over the run file; either way of naming a network on the command line replaces the file's."""
    given = {k: v for k, v in flags.items() if v is not None}
    named = {"network", "model"}
    kept = {k: v for k, v in from_file.items() if k not in named or not named & set(given)}
    return {**kept, **given}


def set_flags(texts: Iterable[str]) -> dict[str, Any]:
    """The values of ``--set KEY=VALUE``."""
    settings: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set {text!r} should read KEY=VALUE. Cure: --set {text}=VALUE")
        settings[key] = parse_value(value)
    return settings
