"""Outputs of a network: the tensors in what a module returns, their order and their names."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch

from laconic.errors import CaptureError


class Result(NamedTuple):
    """A module's result: its tensors in order, their names, and whether it returns them by name."""

    tensors: tuple[torch.Tensor, ...]
    names: tuple[str, ...]
    keyed: bool


def described(result: object) -> Result:
    """The tensors in a module's result: tuples, dictionaries and dataclasses, nested; None is dropped.

    Keys and fields become names, joined by dots where they are nested; so do places in tuples within tuples
    ("1.0" is the first in the second). A result of tensors in one plain tuple has no names.

    Raises ``CaptureError`` for anything else that a module returns.

    >>> described({"logits": torch.zeros(1), "states": (torch.zeros(2), None)}).names
    ('logits', 'states.0')
    >>> described((torch.zeros(1), (torch.zeros(2), torch.zeros(3)))).names
    ('0', '1.0', '1.1')
    """
    leaves = list(_leaves(result, ()))
    paths = [path for path, _ in leaves]
    named = any(len(path) > 1 or isinstance(part, str) for path in paths for part in path)
    names = tuple(".".join(map(str, path)) or "output" for path in paths) if named else ()
    if len(set(names)) != len(names) or not all(name.isprintable() and name for name in names):
        names = ()
    keyed = isinstance(result, Mapping) or (dataclasses.is_dataclass(result) and not isinstance(result, type))
    return Result(tuple(tensor for _, tensor in leaves), names, keyed)


Path = tuple[str | int, ...]
_WRAP = "wrap it in a module that returns tensors, in tuples or dictionaries"
_CACHED = f"switch the cache off (use_cache=False in the model's configuration), or {_WRAP}"


def _article(value: object) -> str:
    return "an" if type(value).__name__[0] in "aeiouAEIO" else "a"


def _leaves(value: object, path: Path) -> Iterator[tuple[Path, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield path, value
        return
    if value is None:
        return
    if isinstance(value, Mapping):
        parts: list[tuple[str | int, object]] = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, (tuple, list)):
        fields = getattr(value, "_fields", None)
        parts = list(zip(fields, value, strict=True)) if fields else list(enumerate(value))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    else:
        where = f" as {'.'.join(map(str, path))!r}" if path else ""
        raise CaptureError(
            f"the network returns {_article(value)} {type(value).__name__}{where}; a graph returns arrays. "
            f"Cure: {_CACHED if 'Cache' in type(value).__name__ else _WRAP}"
        )
    for key, item in parts:
        yield from _leaves(item, (*path, key))
