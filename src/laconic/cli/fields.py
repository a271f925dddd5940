"""Settings, checked against the fields of the methods before anything heavy is imported. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from laconic.cli.run_file import OPTIONS
from laconic.errors import InputError
from laconic.own import did_you_mean
from laconic.registry import METHODS
from laconic.rows import settings_of

PRESETS = ("full", "demo")


def check_stage(method: str, settings: Mapping[str, Any], preset: str) -> None:
    """Refuse a method, a preset and settings that there are not, as far as names tell without torch."""
    METHODS.check(method)
    place = METHODS.known().get(method)
    if preset not in PRESETS and place is not None:
        raise InputError(f"no preset is called {preset!r}. Cure: {did_you_mean(preset, PRESETS)}")
    fields = settings_of(place) if place else None
    training = settings_of("laconic.train.fit:FitConfig") or ()
    for key, value in settings.items():
        head, _, rest = key.partition(".")
        if head == "fit" and "fit" not in (fields or ()):
            check_field(rest.partition(".")[0], training, key, value, "the training")
        elif fields is not None:
            check_field(head, fields, key, value, f"method {method}")


NO_SETTINGS = {
    "network": "NETWORK",
    **{name: f"--{name}" for name in OPTIONS if name not in ("network", "picture")},
}
"""Options that are no settings, and how they are given."""
_GROUPS = {
    "fit": "fit.epochs",
    "reference": "reference.epochs",
    "data": "data.batch_size",
    "task": "task.ignore",
}
"""Settings that have parts, and one of the parts."""


def option(name: str, value: Any) -> str:
    """How an option is written that was taken for a setting."""
    if name in ("int8", "shrink"):
        return NO_SETTINGS[name]
    return f"laconic compress {value}" if name == "network" else f"{NO_SETTINGS[name]} {value}"


def check_field(name: str, known: tuple[str, ...], key: str, value: Any, of: str) -> None:
    """Refuse a setting that is not a field; the cure is its right spelling where there is one."""
    if name in known:
        return
    training = settings_of("laconic.train.fit:FitConfig") or ()
    if key in _GROUPS:
        part = _GROUPS[key]
        raise InputError(
            f"setting {key}={value!r} has parts. Cure: {part}={value}, or another field of {key}"
        )
    if key in NO_SETTINGS:
        cure = option(key, value)
    elif name in training and "." not in key:
        cure = f"fit.{key}={value} for the training with the method"
    else:
        cure = did_you_mean(name, known)
    raise InputError(f"{of} has no setting {name!r} (from {key}={value!r}). Cure: {cure}")
