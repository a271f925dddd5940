"""``laconic sweep``: a compression once for each combination of settings, then a table and a picture."""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from laconic.cli.arguments import make_parser
from laconic.cli.request import parse_request
from laconic.cli.settings import parse_value
from laconic.errors import InputError, RunFolderError
from laconic.files import write_text
from laconic.report.trade_off import Point, draw_trade_off, table

MISSED = 3  # what a run returns whose file misses its target: it is a point as well
RECORD, SETTINGS = "record.json", "settings.json"
Compress = Callable[[argparse.Namespace], int]


def run_sweep(arguments: argparse.Namespace, compress: Compress) -> int:
    """Run what is not finished yet; print the table and where the picture is.

    All combinations are checked before the first one trains. Returns 0, or what an unfinished run returned.
    """
    root = Path(arguments.out)
    runs = list(combinations(arguments.vary))
    commands = {name: _command(arguments.words, settings, root / name) for name, settings in runs}
    parsed = {name: make_parser().parse_args(words) for name, words in commands.items()}
    for each in parsed.values():
        parse_request(each)
    for name, each in parsed.items():
        print(f"== {name}")
        status = compress(each)
        if status not in (0, MISSED):
            return status
    write_results(root, [name for name, _ in runs])
    return 0


def combinations(varied: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Every combination of ``KEY=A,B,C``: its name, and its settings as ``KEY=A``.

    >>> [name for name, _ in combinations(["kl_weight=1,2", "grid.steps=[0.5, 1]"])]
    ['kl_weight=1,grid.steps=[0.5, 1]', 'kl_weight=2,grid.steps=[0.5, 1]']
    """
    columns = []
    for text in varied:
        key, equals, values = text.partition("=")
        found = list(_values(values))
        if not key or not equals or not all(found):
            raise InputError(f"--vary {text!r} should read KEY=VALUE,VALUE. Cure: --vary kl_weight=0.5,1,2")
        for place, value in enumerate(found):
            same = next((v for v in found[:place] if _meant(v) == _meant(value)), None)
            if same is not None:
                twice = "a value twice" if same == value else f"{same} and {value}, which are one value,"
                raise InputError(f"--vary {text!r} has {twice}. Cure: each value once")
        columns.append([f"{key}={value}" for value in found])
    keys = [text.partition("=")[0] for text in varied]
    if len(set(keys)) < len(keys):
        raise InputError(f"--vary names a setting twice, got {', '.join(keys)}. Cure: KEY=A,B,C once")
    for chosen in itertools.product(*columns):
        yield ",".join(chosen).replace("/", "_"), list(chosen)


def _meant(text: str) -> Any:
    """What a value means, so that 1 and 1.0 are one; a truth value is no number."""
    value = parse_value(text.strip("[]() "))
    parts = value if isinstance(value, list) else [value]
    read = [parse_value(v.strip()) if isinstance(v, str) else v for v in parts]
    return [(type(v) is bool, v) for v in read]


def _values(text: str) -> Iterator[str]:
    """The values between commas; a comma inside brackets belongs to its value."""
    depth, start = 0, 0
    for place, character in enumerate(text):
        depth += (character in "[({") - (character in "])}")
        if character == "," and depth == 0:
            yield text[start:place].strip()
            start = place + 1
    yield text[start:].strip()


def _command(words: Sequence[str], settings: Sequence[str], folder: Path) -> list[str]:
    """The words of one run; one that has begun goes on, and one that is finished is read."""
    taken = next((w for w in words if w.partition("=")[0] in ("--out", "--resume")), None)
    if taken is not None:
        raise InputError(
            f"{taken} is no option of a sweep's runs: their folders are in the sweep's --out, and they go "
            "on by themselves. Cure: --out before the --, and no --resume"
        )
    sets = [word for setting in settings for word in ("--set", setting)]
    again = ["--resume"] if (folder / SETTINGS).exists() else []
    return ["compress", *words, *sets, "--out", str(folder), *again]


def write_results(root: Path, names: Sequence[str]) -> None:
    """Write ``sweep.json``, ``sweep.md`` and, with matplotlib, ``sweep.png``; print the table."""
    records = {name: _record(root / name / RECORD) for name in names}
    points = [point(name, record) for name, record in records.items()]
    told = next(iter(records.values()))["facts"]["metric"]
    metric, unit, higher = f"validation {told['name']}", told["unit"], told["higher_is_better"]
    text = table(points, metric, unit, higher_is_better=higher)
    write_text(root / "sweep.json", json.dumps([asdict(p) for p in points], indent=2) + "\n")
    write_text(root / "sweep.md", text + "\n")
    print(text)
    if importlib.util.find_spec("matplotlib") is None:
        print("no picture: matplotlib is not installed. Cure: pip install 'laconic[report]'")
        return
    draw_trade_off(points, root / "sweep.png", metric, unit, higher_is_better=higher)
    print(f"picture: {root / 'sweep.png'}")


def point(name: str, record: dict[str, Any]) -> Point:
    """A run's point on the validation split, which settings are chosen by."""
    metrics = record["metrics"]
    return Point(name, record["file_bytes"], metrics["validation_metric"], metrics["validation_nll"])


def _record(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"{path} cannot be read: {error}. Cure: delete its folder, and sweep again"
        ) from error
