"""The names of timm's networks, read from its source: importing timm takes seconds. No torch."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

_REGISTERED = re.compile(r"^@register_model\s*\ndef (\w+)\(", re.MULTILINE)
_RENAMED = re.compile(r"^register_model_deprecations\(__name__, \{(.*?)^\}\)", re.MULTILINE | re.DOTALL)
_KEY = re.compile(r"""^\s*['"]([\w.]+)['"]\s*:""", re.MULTILINE)


def registered_names() -> frozenset[str]:
    """The names that timm's modules register, and old ones that it still takes.

    Returns:
        The names; none where timm is not installed, or no source of it is found.

    >>> isinstance(registered_names(), frozenset)
    True
    """
    try:
        spec = find_spec("timm")
    except ValueError:  # a module that was put into sys.modules by hand has no specification
        return frozenset()
    places = [] if spec is None else spec.submodule_search_locations or []
    names: set[str] = set()
    for path in (file for place in places for file in sorted(Path(place, "models").glob("*.py"))):
        names |= names_in(path.read_text("utf-8", "replace"))
    return frozenset(names)


def names_in(source: str) -> set[str]:
    """The names that the source of one module registers.

    >>> sorted(names_in("@register_model\\ndef tiny(pretrained=False):\\n    pass\\n"))
    ['tiny']
    """
    old = (key for table in _RENAMED.findall(source) for key in _KEY.findall(table))
    return {*_REGISTERED.findall(source), *old}


def is_registered(name: str, names: frozenset[str]) -> bool:
    """Whether a name, or the network of a name with a tag, is among them; True where none are known.

    >>> is_registered("tiny.in1k", frozenset({"tiny"})), is_registered("other", frozenset({"tiny"}))
    (True, False)
    """
    return not names or name in names or name.partition(".")[0] in names
