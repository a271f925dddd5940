"""Settings, checked against the fields of the methods before anything heavy is imported. No torch."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from types import NoneType
from typing import Any, Literal, Union

from laconic.cli.run_file import OPTIONS
from laconic.cli.settings import typed
from laconic.errors import InputError
from laconic.own import did_you_mean
from laconic.registry import FIT_CHOICES, METHOD_CHOICES, METHODS
from laconic.rows import annotations_of, settings_of

PRESETS = ("full", "demo")
FIT = "laconic.train.fit:FitConfig"
"""Where the settings of a training are."""


def check_stage(method: str, settings: Mapping[str, Any], preset: str) -> None:
    """Refuse a method, a preset and settings that there are not, as far as files tell without torch.

    Args:
        method: A registered name, or one of the user's own.
        settings: Dotted settings of it and of its training (``fit.``).
        preset: The preset's name.

    Raises:
        InputError: Names what there is not, or the setting, its type, and the cure.
    """
    METHODS.check(method)
    place = METHODS.known().get(method)
    if preset not in PRESETS and place is not None:
        raise InputError(f"no preset is called {preset!r}. Cure: {did_you_mean(preset, PRESETS)}")
    fields = settings_of(place) if place else None
    training = settings_of(FIT) or ()
    for key, value in settings.items():
        head, _, rest = key.partition(".")
        if head == "fit" and "fit" not in (fields or ()):
            check_field(rest.partition(".")[0], training, key, value, "the training")
            check_value(FIT, rest, value, key, FIT_CHOICES)
        elif place is not None and fields is not None:
            check_field(head, fields, key, value, f"method {method}")
            check_value(place, key, value, key, METHOD_CHOICES)


def check_value(place: str, name: str, value: Any, key: str, choices: Mapping[str, Any]) -> None:
    """Refuse a field within a field that there is not, and a value of another type.

    What can be told only by importing the class, as its bounds, is not looked at.

    Args:
        place: Where the class is, as ``module:name``.
        name: The dotted name within it.
        value: What was given.
        key: The whole setting's name, for messages.
        choices: Fields whose value may be named from a registry.

    Raises:
        InputError: Names the setting and the cure.

    >>> check_value("laconic.methods.post_training:METHOD", "refine.steps", "many", "refine.steps", {})
    Traceback (most recent call last):
    ...
    laconic.errors.InputError: setting refine.steps: expected int, got 'many'. Cure: refine.steps=3
    """
    head, _, rest = name.partition(".")
    found = (annotations_of(place) or {}).get(head)
    if found is None or head in choices:
        return
    if rest:
        inner = found.place
        known = annotations_of(inner) if inner else None
        if inner is not None and known:
            part = rest.partition(".")[0]
            if part not in known:
                raise InputError(
                    f"{inner.partition(':')[2]} has no setting {part!r} (from {key}={value!r}). "
                    f"Cure: {did_you_mean(part, known)}"
                )
            check_value(inner, rest, value, key, choices)
        return
    kind = _kind(found.annotation)
    if kind is not None and not (isinstance(value, str) and ":" in value):
        typed(value, kind, key)


def _kind(node: ast.expr) -> Any:
    """The type that an annotation of numbers, words and tuples of them is; None for any other."""
    if isinstance(node, ast.Name):
        return {"int": int, "float": float, "bool": bool, "str": str}.get(node.id)
    if isinstance(node, ast.Constant):
        return NoneType if node.value is None else None
    if isinstance(node, ast.BinOp):
        sides = _kind(node.left), _kind(node.right)
        return None if None in sides else Union[sides]  # noqa: UP007 - made from parts
    if not isinstance(node, ast.Subscript) or not isinstance(node.value, ast.Name):
        return None
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if node.value.id == "Literal":
        words = [part.value for part in parts if isinstance(part, ast.Constant)]
        return Literal[tuple(words)] if len(words) == len(parts) else None
    if node.value.id != "tuple":
        return None
    kinds = [... if ast.unparse(part) == "..." else _kind(part) for part in parts]
    return None if None in kinds else tuple[tuple(kinds)]  # type: ignore[misc]


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
    training = settings_of(FIT) or ()
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
        cure = _elsewhere(name, key, value, of) or did_you_mean(name, known)
    raise InputError(f"{of} has no setting {name!r} (from {key}={value!r}). Cure: {cure}")


def _elsewhere(name: str, key: str, value: Any, of: str) -> str:
    """The cure for a setting that other methods have; empty where none has it, or no method is meant."""
    if not of.startswith("method "):
        return ""
    if of == "method post-training" and key.endswith("grid.max_kl"):
        return f"--target {value}nats, which is what it measures here"
    places = METHODS.known()
    having = sorted(method for method, place in places.items() if name in (settings_of(place) or ()))
    if having == ["post-training"]:
        return "--calibrate INPUTS, without --method, as it is a setting of compressing without training"
    return f"leave it out; it is one of {', '.join(having)}" if having else ""
