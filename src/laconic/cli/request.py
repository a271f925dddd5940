"""What a compression was asked to do: flags over the run file over the defaults.

No torch: what is wrong with the words is told before anything heavy is imported or written.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laconic.cli.choices import NETWORKS, pick, preset
from laconic.cli.own import check_name
from laconic.cli.settings import check_seed, check_threads, parse_size, parse_value
from laconic.data import check_data_name
from laconic.errors import InputError

if TYPE_CHECKING:
    from laconic.train.fit import FitConfig
    from laconic.train.job import Job

OPTIONS = (
    "network",
    "model",
    "data",
    "method",
    "preset",
    "target",
    "seed",
    "out",
    "threads",
    "int8",
    "shrink",
    "picture",
)


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
    int8: bool = False
    shrink: bool = False
    picture: bool = True

    def record(self, job: Job, reference: FitConfig | None) -> dict[str, Any]:
        """What identifies the run: it must be the same on --resume.

        The number of threads is part of it, since sums of floats depend on it.
        """
        from laconic.train.job import plain_settings, settings_of

        asked = {"network": self.network, "model": self.model, "data": self.data, "threads": self.threads}
        data = {k: v for k, v in self.settings.items() if k.startswith("data.")}
        trained = None if reference is None else plain_settings(reference)
        # said only where asked, so that older run folders can be resumed
        asked |= {name: True for name in ("int8", "shrink") if getattr(self, name)}
        return {**asked, **data, **settings_of(job), "reference": trained}


def parse_request(arguments: argparse.Namespace) -> Request:
    """Merge flags, run file and defaults; unknown names in the run file are errors."""
    from_file, asked = _run_file(arguments.config)
    values = _merged(from_file, {k: getattr(arguments, k, None) for k in OPTIONS})
    network, model = values.get("network"), values.get("model")
    if (network is None) == (model is None):
        raise InputError(
            "name one network: a built-in one (lenet5) or your own with --model package.module:function"
        )
    method = values.get("method", "sparse-vd")
    data = values.get("data") or (pick(NETWORKS, network, "network").data if network else None)
    if data is None:
        raise InputError("--model needs --data: mnist, fashion-mnist, digits or package.module:function")
    _check_names(model, data)
    asked.update(_set_flags(arguments.set))
    _refuse_unused(asked, model, data)
    batch_size(asked, 1)
    if values.get("target") is not None:
        parse_size(values["target"])
    seed, threads = values.get("seed", 0), values.get("threads")
    check_seed(seed)
    check_threads(threads)
    name = network or str(model).split(":")[-1]
    return Request(
        network=network,
        model=model,
        data=data,
        method=method,
        target=values.get("target"),
        seed=seed,
        out=Path(values.get("out") or Path("runs") / f"{name}-{method}"),
        settings={**preset(values.get("preset", "full"), method, network), **asked},
        threads=threads,
        int8=bool(values.get("int8", False)),
        shrink=bool(values.get("shrink", False)),
        picture=bool(values.get("picture", True)),
    )


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


def _check_names(model: str | None, data: str) -> None:
    """Refuse what can be no name of a function or a data set."""
    if model is not None:
        check_name(model, "--model")
    if ":" in data:
        check_name(data, "--data")
    else:
        check_data_name(data)


def _merged(from_file: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """Flags over the run file; either way of naming a network on the command line replaces the file's."""
    given = {k: v for k, v in flags.items() if v is not None}
    named = {"network", "model"}
    kept = {k: v for k, v in from_file.items() if k not in named or not named & set(given)}
    return {**kept, **given}


def _set_flags(texts: Iterable[str]) -> dict[str, Any]:
    """The values of ``--set KEY=VALUE``."""
    settings: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set {text!r} should read KEY=VALUE")
        settings[key] = parse_value(value)
    return settings


def _refuse_unused(asked: Mapping[str, Any], model: str | None, data: str) -> None:
    """Refuse settings that nothing would look at (a preset's own may stand unused)."""
    for key in asked:
        if key.startswith("data.") and ":" in data:
            raise InputError(
                f"setting {key} is for built-in data; {data} makes its own batches. "
                f"Cure: leave {key} out, and batch in that function"
            )
        if key.startswith("reference.") and model is not None:
            raise InputError(
                f"setting {key} is for training a built-in network; --model {model} is trained already. "
                f"Cure: leave {key} out"
            )


def _run_file(path: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options and dotted settings of a TOML run file."""
    if path is None:
        return {}, {}
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
    _check_options(path, tree)
    try:
        return tree, _flatten(table)
    except RecursionError as error:
        raise InputError(
            f"run file {path}: its settings are nested too deeply. Cure: fit.epochs = 3"
        ) from error


def _check_options(path: str, tree: Mapping[str, Any]) -> None:
    unknown = sorted(set(tree) - set(OPTIONS))
    if unknown:
        known = ", ".join((*OPTIONS, "settings"))
        raise InputError(f"run file {path}: unknown name {unknown[0]!r}. Cure: one of {known}")
    for name, value in tree.items():
        flags = dict.fromkeys(("int8", "shrink", "picture"), (bool, "true"))
        kinds = {"seed": (int, "3"), "threads": (int, "3"), **flags}
        kind, example = kinds.get(name, (str, '"..."'))
        if isinstance(value, bool) != (kind is bool) or not isinstance(value, kind):
            raise InputError(
                f"run file {path}: {name} must be {kind.__name__}, got {value!r}. Cure: {name} = {example}"
            )


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(
            _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
        )
    return flat
