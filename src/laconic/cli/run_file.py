"""Run files: TOML with the command's options, a table of settings, and a table for each stage. No torch."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from laconic.errors import InputError
from laconic.own import did_you_mean

OPTIONS = (
    "network",
    "model",
    "data",
    "calibrate",
    "method",
    "task",
    "preset",
    "target",
    "seed",
    "out",
    "threads",
    "int8",
    "shrink",
    "picture",
    "keep",
    "dynamic",
)


@dataclass(frozen=True)
class StageTable:
    """A [[stage]] of a run file: a method's name, its dotted settings, where it rewinds to."""

    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    rewind_to: int | None = None


@dataclass(frozen=True)
class RunFile:
    """A run file: options by name, dotted settings, stages."""

    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    stages: tuple[StageTable, ...] = ()


def read_run_file(path: str | None) -> RunFile:
    """The contents of a run file; None is an empty one.

    Raises InputError that names the file, the line's name and a cure.
    """
    if path is None:
        return RunFile()
    try:
        tree = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"run file {path}: {error.strerror}. Cure: check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"run file {path} is not UTF-8 text: {error}. Cure: save it as UTF-8") from error
    except (ValueError, RecursionError) as error:  # numbers of 5000 digits, brackets in brackets, or no TOML
        raise InputError(
            f"run file {path}: {error}. Cure: NAME = VALUE lines, then a [settings] table"
        ) from error
    table = tree.pop("settings", {})
    if not isinstance(table, dict):
        raise InputError(
            f"run file {path}: settings must be one table, got {table!r}. Cure: a line [settings], "
            "and NAME = VALUE lines below it"
        )
    stages = tree.pop("stage", None)
    _check_options(path, tree)
    try:
        return RunFile(tree, _flatten(table), _stages(path, stages))
    except RecursionError as error:
        raise InputError(
            f"run file {path}: its settings are nested too deeply. Cure: fit.epochs = 3"
        ) from error


def _stages(path: str, tables: Any) -> tuple[StageTable, ...]:
    if tables is None:
        return ()
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables) or not tables:
        raise InputError(
            f"run file {path}: stage must be a list of tables. Cure: a line [[stage]] before each stage"
        )
    return tuple(_stage(path, number, table) for number, table in enumerate(tables, 1))


def _stage(path: str, number: int, table: dict[str, Any]) -> StageTable:
    rest = dict(table)
    method, rewind = rest.pop("method", None), rest.pop("rewind_to", None)
    if not isinstance(method, str):
        raise InputError(f'run file {path}: stage {number} names no method. Cure: method = "magnitude"')
    if rewind is not None and (type(rewind) is not int or rewind < 0):
        raise InputError(
            f"run file {path}: rewind_to of stage {number} is an epoch of the first stage, got {rewind!r}. "
            "Cure: rewind_to = 0"
        )
    more = rest.pop("settings", {})  # a method may have a field that is called "method" itself
    return StageTable(method, _flatten({**rest, **more}), rewind)


def _check_options(path: str, tree: Mapping[str, Any]) -> None:
    unknown = sorted(set(tree) - set(OPTIONS))
    if unknown:
        cure = did_you_mean(unknown[0], (*OPTIONS, "settings", "stage"))
        raise InputError(f"run file {path}: unknown name {unknown[0]!r}. Cure: {cure}")
    if (problem := wrong_option(tree)) is not None:
        raise InputError(f"run file {path}: {problem[0]}. Cure: {problem[1]}")


def wrong_option(options: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first option with a value of another type than its own, and a line that is right; None without one.

    >>> wrong_option({"network": "lenet5", "seed": "x"})
    ("seed must be int, got 'x'", 'seed = 3')
    """
    flags = dict.fromkeys(("int8", "shrink", "picture"), (bool, "true"))
    kinds = {"seed": (int, "3"), "threads": (int, "3"), "keep": (list, '["head"]'), **flags}
    for name, value in options.items():
        if name == "dynamic":
            continue  # a tree, which laconic.cli.free_axes reads
        kind, example = kinds.get(name, (str, '"..."'))
        if isinstance(value, bool) != (kind is bool) or not isinstance(value, kind):
            return f"{name} must be {kind.__name__}, got {value!r}", f"{name} = {example}"
    return None


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(
            _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
        )
    return flat
