"""``laconic methods`` and ``laconic tasks``: what is registered, and the fields of one of them."""

from __future__ import annotations

import dataclasses
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
    doc = plain_formulas(plain_words((kind.__doc__ or "").partition(">>>")[0])).strip()
    lines = [f"{name}: {kind.__module__}.{kind.__qualname__}"]
    paper = getattr(found, "paper", "")
    lines += [wrapped(paper)] if paper else []
    lines += ["", doc, "", "fields and defaults:"]
    choices = METHOD_CHOICES if registry is registries.METHODS else {}
    fields = [f for f in dataclasses.fields(kind) if f.init] if dataclasses.is_dataclass(kind) else []
    lines += [line for f in fields for line in _lines(f, choices.get(f.name))] or ["  none"]
    for preset, networks in getattr(found, "presets", {}).items():
        for network, settings in networks.items():
            words = " ".join(f"{key}={_value(value)}" for key, value in settings.items())
            lines += ["", f"preset {preset}, {network or 'any other network'}:", wrapped(words, 2)]
    return "\n".join(lines)


def _lines(field: Any, registry: Registry | None) -> list[str]:
    """A field with its default, and the names that --set takes for it where there are any."""
    first, *parts = _field(field).split("\n")
    names = [] if registry is None else [wrapped(f"names: {', '.join(registry.names())}", 4)]
    return [first, *names, *parts]


def _field(field: Any) -> str:
    default = field.default
    if default is dataclasses.MISSING:
        factory = field.default_factory
        default = None if factory is dataclasses.MISSING else factory()
        if factory is dataclasses.MISSING:
            return f"  {field.name}  (must be given)"
    if dataclasses.is_dataclass(default):
        parts = [f"  {field.name}: {type(default).__name__}"]
        parts += [
            f"  {field.name}.{f.name} = {_value(getattr(default, f.name))}"
            for f in dataclasses.fields(default)
        ]
        return "\n".join(parts)
    return f"  {field.name} = {_value(default)}"


def _value(value: Any) -> str:
    """A value as --set takes it."""
    if isinstance(value, tuple | list):
        return ",".join(map(_value, value)) or "none"
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return getattr(value, "__qualname__", str(value))
