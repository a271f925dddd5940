"""Texts to values: numbers, targets, and the fields of frozen dataclasses, each checked against its type.

No torch: a wrong setting is refused before anything is trained.
"""

from __future__ import annotations

import dataclasses
import math
import os
import string
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from laconic.errors import InputError
from laconic.own import did_you_mean, own_object
from laconic.registry import Entry, Registry

MAX_SEED = 2**63 - 1
# Far more threads than cores end in a crash of the thread pool, not in a message.
MAX_THREADS = max(64, 4 * (os.cpu_count() or 1))


Choices = Mapping[str, Registry]
"""The registry that a field's value may be named from, by the name of the field."""


def build(
    kind: type[Any], settings: Mapping[str, Any], prefix: str = "", choices: Choices | None = None
) -> Any:
    """An object of a frozen dataclass from dotted settings; see :func:`configure`.

    Raises InputError as ``configure`` does, and for a field that has no default and no setting.

    >>> from laconic.tasks import Segmentation
    >>> build(Segmentation, {"ignore": 255}).ignore
    255
    """
    if not dataclasses.is_dataclass(kind):
        if settings:
            raise InputError(
                f"{kind.__name__} is no dataclass, so it has no setting {prefix}{next(iter(settings))}. "
                f"Cure: leave the setting out, or make {kind.__name__} a frozen dataclass"
            )
        return _made(kind, {})
    needed = [f.name for f in dataclasses.fields(kind) if f.init and _has_no_default(f)]
    heads = {key.partition(".")[0] for key in settings}
    for name in needed:
        if name not in heads:
            raise InputError(f"{kind.__name__} needs a setting {prefix}{name}. Cure: {prefix}{name}=VALUE")
    kinds = get_type_hints(kind)
    given = _by_field(settings)
    start = {
        name: _value(None, kind, name, kinds[name], given[name], prefix, choices or {}) for name in needed
    }
    made = _made(kind, start)
    rest = {key: value for key, value in settings.items() if key.partition(".")[0] not in needed}
    return configure(made, rest, prefix, choices)


def configure(
    config: Any, settings: Mapping[str, Any], prefix: str = "", choices: Choices | None = None
) -> Any:
    """A copy of a frozen dataclass with dotted fields replaced, all at once, each of its field's type.

    Raises InputError: an unknown name (with the one that may have been meant), a value of another type.
    ``prefix`` stands before the names in messages. ``choices`` are the fields whose value may be named
    ("schedule=cubic"); the settings of what is named stand beside it ("schedule.end=0.5"). An object of a
    user's own is named as ``package.module:name`` in every field that takes no text.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Grid:
    ...     steps: tuple[float, ...] = (0.5,)
    >>> configure(Grid(), {"steps": [1, 2.5]})
    Grid(steps=(1.0, 2.5))
    """
    kinds = get_type_hints(type(config))
    names = [f.name for f in dataclasses.fields(config) if f.init]
    new: dict[str, Any] = {}
    for head, given in _by_field(settings).items():
        if head not in names:
            key, value = next(iter(given.items()))
            shown = f"{prefix}{head}{'.' + key if key else ''}={value!r}"
            raise InputError(
                f"{type(config).__name__} has no setting {head!r} (from {shown}). "
                f"Cure: {did_you_mean(head, names)}"
            )
        new[head] = _value(config, type(config), head, kinds[head], given, prefix, choices or {})
    return dataclasses.replace(config, **new)


def _made(kind: type[Any], arguments: Mapping[str, Any]) -> Any:
    try:
        return kind(**arguments)
    except TypeError as error:  # an abstract class, or missing arguments
        raise InputError(f"{kind.__name__}: {error}. Cure: write all of its methods") from error


def _has_no_default(field: Any) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _by_field(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Dotted settings by their first name: the value itself under the empty name, its parts under theirs."""
    fields: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        head, _, rest = key.partition(".")
        fields.setdefault(head, {})[rest] = value
    return fields


def _value(
    config: Any,
    owner: type[Any],
    head: str,
    kind: Any,
    given: Mapping[str, Any],
    prefix: str,
    choices: Choices,
) -> Any:
    """The value of one field: named, written out, or its present value with parts replaced."""
    key = prefix + head
    parts = {name: value for name, value in given.items() if name}
    whole = given.get("")
    if head in choices and "" not in given and isinstance(parts.get("name"), str):
        whole = parts.pop("name")  # a run file has no second value for schedule where schedule.end stands
    if isinstance(whole, str) and head in choices:
        return _named(choices[head], whole, parts, f"{key}.", choices)
    if isinstance(whole, str) and ":" in whole and not _takes_text(kind):
        return _own(whole, kind, parts, key)
    if "" in given:
        value = typed(whole, kind, key)
        if not parts:
            return value
    present = getattr(config, head, None)
    if dataclasses.is_dataclass(present) and "" not in given:
        return configure(present, parts, f"{key}.", choices)
    name, value = next(iter(parts.items()))
    if head in choices:
        cure = f"{key}=NAME as well, one of {', '.join(choices[head].names())}"
    else:
        cure = f"{key}=VALUE"
    raise InputError(
        f"setting {head!r} of {owner.__name__} has no parts (from {key}.{name}={value!r}). Cure: {cure}"
    )


def _named(registry: Registry, text: str, parts: Mapping[str, Any], prefix: str, choices: Choices) -> Any:
    """The object of a registered name (or ``package.module:name``) with its own settings."""
    found = registry.find(text)
    kind = found.kind if isinstance(found, Entry) else found
    if isinstance(kind, type) and (dataclasses.is_dataclass(kind) or not registry.factory):
        return build(kind, parts, prefix, choices)
    return partial(kind, **parts) if parts else kind


def _own(text: str, kind: Any, parts: Mapping[str, Any], key: str) -> Any:
    """A user's own object: as it is where the field takes it, else what it returns when it is called."""
    found = own_object(text, f"setting {key}")
    if not isinstance(found, type):
        with suppress(InputError):
            return typed(found, kind, key)
    if not callable(found):
        return typed(found, kind, key)
    if isinstance(found, type) and dataclasses.is_dataclass(found):
        return build(found, parts, f"{key}.")
    return found(**parts)


def _takes_text(kind: Any) -> bool:
    return str in (get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,))


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
    if get_origin(kind) is Callable:
        if not callable(value):
            raise TypeError("no function")
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
    """An annotation as text: ``float or none``."""
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_name(k) for k in get_args(kind))
    if get_origin(kind) is Literal:
        return " or ".join(map(str, get_args(kind)))
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        if kinds[-1] is Ellipsis:
            return f"{_name(kinds[0])} values"
        return f"{len(kinds)} values ({', '.join(_name(k) for k in kinds)})"
    if get_origin(kind) is Callable:
        return "the name of a function"
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
    if get_origin(kind) is Callable:
        return f"{key}=package.module:function"
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


_UNITS = {
    "": ("", 1.0),
    "pt": ("pt", 1.0),
    "%": ("pt", 1.0),
    "b": ("B", 1.0),
    "kb": ("B", 1e3),
    "mb": ("B", 1e6),
    "nats": ("nats", 1.0),
    "nat": ("nats", 1.0),
}
"""Units of a target: what they are of, and by how much they count. A kB has 1000 bytes."""
_NO_LENGTH = 2.0**63
"""Bytes of a file, counted beyond what a file system takes."""


def parse_size(text: str) -> tuple[str, float]:
    """The unit and the finite number of a target: ``0.3`` in the metric's own unit (here an empty text),
    ``0.3pt`` or ``0.3%`` (points of a percentage), ``5kB``, ``5 KB``, ``5000B``, ``0.01nats`` (a divergence).

    >>> parse_size("5kB"), parse_size("5 KB"), parse_size("0.3pt"), parse_size("0.3%"), parse_size("0.02")
    (('B', 5000.0), ('B', 5000.0), ('pt', 0.3), ('pt', 0.3), ('', 0.02))
    """
    number = text.strip()
    letters = len(number) - len(number.rstrip("%" + string.ascii_letters))
    unit = number[len(number) - letters :]
    number = number[: len(number) - letters].strip()
    of, factor = _UNITS.get(unit.lower(), ("", math.nan))
    value = math.nan
    with suppress(ValueError):
        value = float(number) * factor
    if math.isfinite(value):
        return of, _allowed(text, of, value)
    raise InputError(
        f"target {text!r} is not understood. Cure: 0.3 (in the metric's unit), "
        "0.3pt or 0.3% (points of a percentage), 5kB or 5000B (file length; a kB has 1000 bytes), 0.01nats "
        "(from the original's predictions, with --calibrate)"
    )


def _allowed(text: str, of: str, value: float) -> float:
    """Refuse a target that no file and no metric can have."""
    if of == "B" and not 0.5 < value < _NO_LENGTH:
        raise InputError(f"target {text!r} is no length of a file, from 1 byte. Cure: 5kB or 5000B")
    if value < 0:
        raise InputError(
            f"target {text!r} is negative: it is how much worse the metric may become. Cure: {-value:g}{of}, "
            "or 0 for no loss"
        )
    return value


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
