"""The options that a run began with, as its folder holds them: ``--resume --out FOLDER`` needs no others."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from laconic.cli.run_file import OPTIONS, RunFile, StageTable, wrong_option
from laconic.errors import InputError, RunFolderError
from laconic.train.run_folder import REQUEST, SETTINGS


def stored_options(arguments: argparse.Namespace) -> RunFile | None:
    """The options of the run that is resumed, in the form of a run file.

    Settings that are given again win over them; a contradiction is refused later, by name, as the run's
    settings are compared. A run file that is named is read instead.

    Args:
        arguments: The command's arguments, of which ``resume``, ``out`` and ``config`` count.

    Returns:
        The options; None where no run is resumed, or its folder does not hold them.

    Raises:
        RunFolderError: Another network, method, task ... than the run's, or a stored option of another type
            than its own.
    """
    if not arguments.resume or arguments.out is None or arguments.config is not None:
        return None
    try:
        found = json.loads((Path(arguments.out) / SETTINGS).read_text(encoding="utf-8"))[REQUEST]
        stages = tuple(StageTable(s["method"], s["settings"], s["rewind_to"]) for s in found["stages"])
        options = {name: value for name, value in found["options"].items() if name in OPTIONS}
        file = RunFile(options, dict(found["settings"]), stages)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # open_run refuses a damaged folder with its reason
    _check_types(Path(arguments.out) / SETTINGS, file)
    for name in ("network", "model", "data", "method", "task", "preset"):
        before, now = options.get(name), getattr(arguments, name, None)
        if before is not None and now is not None and before != now:
            raise RunFolderError(
                f"{arguments.out} holds a run with {name}={before!r}, not {now!r}. "
                f"Cure: leave {name} out, or name another folder with --out"
            )
    return file


def _check_types(path: Path, file: RunFile) -> None:
    """Refuse what only an edited or damaged folder holds."""
    problem = next(filter(None, (wrong_option(file.options), *map(_wrong_stage, file.stages))), None)
    if problem is not None:
        raise RunFolderError(
            f"{path}: {problem[0]}. Cure: the options that the run began with, and another --out"
        )


def _wrong_stage(stage: StageTable) -> tuple[str, str] | None:
    if stage.rewind_to is not None and (type(stage.rewind_to) is not int or stage.rewind_to < 0):
        return f"rewind_to must be an epoch from 0, got {stage.rewind_to!r}", ""
    return wrong_option({"method": stage.method})


def as_data(options: Mapping[str, Any], settings: Mapping[str, Any], file: RunFile) -> dict[str, Any]:
    """What :func:`stored_options` reads: options by name, dotted settings, the run file's stages.

    >>> as_data({"network": "lenet5", "out": "runs/a"}, {"fit.epochs": 3}, RunFile())
    {'options': {'network': 'lenet5'}, 'settings': {'fit.epochs': 3}, 'stages': []}
    """
    return {
        "options": {name: value for name, value in options.items() if name != "out"},
        "settings": dict(settings),
        "stages": [
            {"method": stage.method, "settings": dict(stage.settings), "rewind_to": stage.rewind_to}
            for stage in file.stages
        ],
    }


def no_network(arguments: argparse.Namespace) -> InputError:
    """The error of a command that names no network, or two."""
    if not arguments.resume:
        return InputError(
            "no network is named, or two are. Cure: name one network, a built-in one (lenet5) or your own "
            "with --model package.module:function"
        )
    if arguments.out is None:
        return InputError(
            "--resume: no run is named. Cure: --out FOLDER, the run's folder, or the options it began with"
        )
    return InputError(
        f"--resume: {arguments.out} does not hold the options of a run. "
        "Cure: the folder of a run that laconic compress began, or the options that it began with"
    )
