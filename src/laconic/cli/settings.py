"""Words become values: numbers, targets, and the fields of frozen dataclasses, each checked against its type.

No torch: what is wrong with a setting is said before anything is trained.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from laconic.errors import InputError

MAX_SEED = 2**63 - 1
# Far more threads than cores end in a crash of the thread pool, not in a message.
MAX_THREADS = max(64, 4 * (os.cpu_count() or 1))


def configure(config: Any, settings: Mapping[str, Any], prefix: str = "") -> Any:
    """A copy of a frozen dataclass with dotted fields replaced, all at once, each of its field's type.

    Raises InputError: an unknown name (the known ones are listed), a value of another type. ``prefix`` stands
    before the names in messages.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Grid:
    ...     steps: tuple[float, ...] = (0.5,)
    >>> configure(Grid(), {"steps": [1, 2.5]})
    Grid(steps=(1.0, 2.5))
    """
    kinds = get_type_hints(type(config))
    names = [f.name for f in dataclasses.fields(config)]
    new: dict[str, Any] = {}
    parts: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        head, dot, rest = key.partition(".")
        if head not in names:
            raise InputError(
                f"{type(config).__name__} has no setting {head!r} (from {prefix}{key}={value!r}). "
                f"Cure: one of {', '.join(names)}"
            )
        if not dot:
            new[head] = typed(value, kinds[head], prefix + key)
        elif dataclasses.is_dataclass(getattr(config, head)):
            parts.setdefault(head, {})[rest] = value
        else:
            raise InputError(
                f"setting {head!r} of {type(config).__name__} has no parts (from {prefix}{key}={value!r}). "
                f"Cure: {prefix}{head}=VALUE"
            )
    for head, inner in parts.items():
        new[head] = configure(getattr(config, head), inner, f"{prefix}{head}.")
    return dataclasses.replace(config, **new)


def typed(value: Any, kind: Any, key: str) -> Any:
    """``value`` as the annotation ``kind`` has it, or an InputError that names ``key``.

    Lists become tuples (a single value is a list of one), whole numbers become floats where floats belong;
    true and false are no numbers, and NaN is no value at all.

    >>> typed(3, float | None, "hold_from"), typed("none", str, "word"), typed(7, tuple[int, ...], "bits")
    (3.0, 'none', (7,))
    """
    try:
        return _typed(value, kind)
    except (TypeError, OverflowError) as error:
        cure = f"{key}.PART=VALUE, as its parts have names" if dataclasses.is_dataclass(kind) else ""
        raise InputError(
            f"setting {key}: expected {_name(kind)}, got {value!r}. Cure: {cure or _example(kind, key)}"
        ) from error


def _typed(value: Any, kind: Any) -> Any:
    if get_origin(kind) in (Union, UnionType):
        return _first_that_fits(value, get_args(kind))
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise TypeError("none of these words")
        return value
    if get_origin(kind) is tuple:
        items = list(value) if isinstance(value, list | tuple) else [value]
        kinds = get_args(kind)
        kinds = kinds[:1] * len(items) if kinds[-1] is Ellipsis else kinds
        if len(items) != len(kinds):
            raise TypeError(f"{len(kinds)} values needed")
        return tuple(_typed(item, k) for item, k in zip(items, kinds, strict=True))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool) or value != value:
        raise TypeError(f"not a {kind}")
    return value


def _first_that_fits(value: Any, kinds: tuple[Any, ...]) -> Any:
    for kind in kinds:
        try:
            return _typed(value, kind)
        except TypeError:
            continue
    raise TypeError("none of these")


def _name(kind: Any) -> str:
    """An annotation in words: ``float or none``, ``numbers``."""
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_name(k) for k in get_args(kind))
    if get_origin(kind) is Literal:
        return " or ".join(map(str, get_args(kind)))
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        if kinds[-1] is Ellipsis:
            return f"{_name(kinds[0])} values"
        return f"{len(kinds)} values ({', '.join(_name(k) for k in kinds)})"
    return "none" if kind is NoneType else str(kind.__name__)


def _example(kind: Any, key: str) -> str:
    """What could stand there instead."""
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_example(k, key) for k in get_args(kind))
    if get_origin(kind) is Literal:
        return f"{key}={get_args(kind)[0]}"
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        count = 2 if kinds[-1] is Ellipsis else len(kinds)
        first = _example(kinds[0], key).partition("=")[2]
        return f"{key}={','.join([first] * count)}"
    words = {float: "0.5", int: "3", bool: "true", str: "WORD", NoneType: "none"}
    return f"{key}={words.get(kind, 'VALUE')}"


def parse_value(text: str) -> Any:
    """A command-line value: true, false, none, a number, a comma list, or a word."""
    if "," in text:
        return [parse_value(part) for part in text.split(",") if part]
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def parse_size(text: str) -> tuple[str, float]:
    """The unit (``pt`` or ``B``) and the finite number of a target: ``0.3pt``, ``5kB``, ``5000B``.

    >>> parse_size("5kB"), parse_size("0.3pt")
    (('B', 5000.0), ('pt', 0.3))
    """
    for unit, factor in (("pt", 1.0), ("kB", 1e3), ("MB", 1e6), ("B", 1.0)):
        if text.endswith(unit):
            try:
                number = float(text[: -len(unit)]) * factor
            except ValueError:
                break
            if math.isfinite(number):
                return ("pt" if unit == "pt" else "B"), number
            break
    raise InputError(
        f"target {text!r} is not understood. Cure: 0.3pt (points of error), 5kB or 5000B (file length)"
    )


def check_seed(seed: int, name: str = "seed") -> None:
    """Refuse a seed that the random generators do not take."""
    if not 0 <= seed <= MAX_SEED:
        raise InputError(f"{name} must be in 0..2^63-1, got {seed}. Cure: {name} 0")


def check_threads(threads: int | None) -> None:
    """Refuse a number of threads that this machine cannot start; None is all cores."""
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise InputError(
            f"threads must be in 1..{MAX_THREADS}, got {threads}. "
            f"Cure: --threads {os.cpu_count() or 1}, the cores of this machine"
        )
