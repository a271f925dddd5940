"""``laconic methods`` and ``laconic tasks``: what is registered, and the fields of one of them."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Mapping
from typing import Any

from laconic import registry as registries
from laconic.cli.formulas import plain_formulas
from laconic.errors import InputError
from laconic.registry import METHOD_CHOICES, Registry
from laconic.rows import described, row_keyword
from laconic.text import plain_words, wrapped


def run_list(registry: str, name: str | None) -> int:
    """Print what is registered, or one of it; ``registry`` is a name in :mod:`laconic.registry`."""
    found: Registry = getattr(registries, registry)
    print(all_of(found) if name is None else one_of(found, name))
    return 0


def all_of(registry: Registry) -> str:
    """Every name with a line of what it is and its paper; nothing is imported."""
    lines = []
    known = registry.known()
    for name in registry.names():
        place = known.get(name)
        told = described(place) if place is not None else f"of the package {registry.place(name)}"
        paper = row_keyword(place, "paper") if place is not None else None
        lines += [name, wrapped(plain_formulas(told), 4), *([wrapped(paper, 4)] if paper else [])]
    lines.append(f"\nlaconic {registry.what}s NAME lists the fields of one of them, with their defaults")
    return "\n".join(lines)


def one_of(registry: Registry, name: str) -> str:
    """One registered class: what it is, its paper, its fields with their defaults, its presets."""
    try:
        found = registry.find(name)
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "lightning_fabric"):
            raise
        raise InputError(
            f"the fields of {name} need {error.name}, which the plain install leaves out. "
            "Cure: pip install 'laconic[train]'"
        ) from error
    kind = getattr(found, "kind", found)
    lines = [f"{name}: {kind.__module__}.{kind.__qualname__}"]
    paper = getattr(found, "paper", "")
    lines += [wrapped(paper)] if paper else []
    lines += ["", _described(kind), "", "fields and defaults:"]
    choices = METHOD_CHOICES if registry is registries.METHODS else {}
    lines += _fields(kind, choices) or ["  none"]
    return "\n".join([*lines, *_presets(getattr(found, "presets", {}))])


def _described(kind: Any) -> str:
    """What a class is; its fields are explained where they are listed."""
    text = inspect.getdoc(kind) or ""
    text = re.split(r"^(?:Args:|Raises:|>>>)", text, maxsplit=1, flags=re.MULTILINE)[0]
    return plain_formulas(plain_words(text)).strip()


def _presets(presets: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """The presets' settings; presets that are alike stand together."""
    alike: dict[tuple[str, str], list[str]] = {}
    for preset, networks in presets.items():
        for network, settings in networks.items():
            words = " ".join(f"{key}={_value(value)}" for key, value in settings.items())
            if settings.get("fit.epochs") == 0:
                words += " (no training with the method)"
            where = network or ("any network" if len(networks) == 1 else "any other network")
            alike.setdefault((where, words), []).append(preset)
    lines = []
    for (where, words), names in alike.items():
        head = f"preset{'s' if len(names) > 1 else ''} {' and '.join(names)}, {where}:"
        lines += ["", head, wrapped(words, 2)]
    return lines


def _fields(kind: Any, choices: Mapping[str, Registry], prefix: str = "", present: Any = None) -> list[str]:
    """The fields of a class with their defaults and what they mean, and those of the classes within it."""
    lines: list[str] = []
    if not dataclasses.is_dataclass(kind):
        return lines
    meaning = arguments_of(kind if isinstance(kind, type) else type(kind))
    for field in dataclasses.fields(kind):
        if not field.init:
            continue
        name = prefix + field.name
        default = _default(field) if present is None else getattr(present, field.name)
        nested = dataclasses.is_dataclass(default) and not isinstance(default, type)
        if default is dataclasses.MISSING:
            lines.append(f"  {name}  (must be given)")
        else:
            lines.append(f"  {name}: {type(default).__name__}" if nested else f"  {name} = {_value(default)}")
        if field.name in choices and not prefix:
            lines.append(wrapped(f"names: {', '.join(choices[field.name].names())}", 4))
        if field.name in meaning:
            lines.append(wrapped(plain_formulas(plain_words(meaning[field.name])), 4))
        if nested:
            lines += _fields(type(default), choices, f"{name}.", default)
    return lines


def _default(field: Any) -> Any:
    """A field's default; MISSING where it has none."""
    factory = field.default_factory
    return field.default if factory is dataclasses.MISSING else factory()


def arguments_of(kind: type[Any]) -> dict[str, str]:
    """What the docstrings of a class and of its bases say of its arguments, by name.

    >>> from laconic.records import UniformGrid
    >>> sorted(arguments_of(UniformGrid))
    ['axis', 'step']
    """
    found: dict[str, str] = {}
    for owner in reversed(kind.__mro__):
        text = inspect.cleandoc(owner.__dict__.get("__doc__") or "")
        block = re.search(r"^Args:\n((?: .*\n?|\n)+)", text, re.MULTILINE)
        argument = ""
        for line in textwrap.dedent(block[1]).splitlines() if block else ():
            name, colon, said = line.partition(": ")
            if colon and name.isidentifier():
                argument, found[name] = name, said.strip()
            elif argument and line.startswith(" "):
                found[argument] += f" {line.strip()}"
    return found


def _value(value: Any) -> str:
    """A value as --set takes it."""
    if isinstance(value, tuple | list):
        return ",".join(map(_value, value)) or "none"
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return getattr(value, "__qualname__", str(value))
