"""Tensors by name, by a pattern, or by the name of their layer. No torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase

from laconic.errors import InputError

_FIRST = 5


def matching(patterns: Iterable[str], names: Iterable[str], what: str) -> frozenset[str]:
    """The names that patterns stand for, each at least one.

    Args:
        patterns: A name; a pattern with ``*``; or a layer, for all names that start with it and a dot.
        names: Those that there are.
        what: What a name is of, in an error: "tensor".

    Returns:
        The names.

    Raises:
        InputError: A pattern that stands for no name; it says the nearest ones.

    >>> sorted(matching(["fc", "*.bias"], ["fc.weight", "conv.bias", "conv.weight"], "tensor"))
    ['conv.bias', 'fc.weight']
    """
    known = list(names)
    found: set[str] = set()
    for pattern in patterns:
        own = {name for name in known if fnmatchcase(name, pattern) or name.startswith(f"{pattern}.")}
        if not own:
            near = difflib.get_close_matches(pattern, known, _FIRST, 0.5) or known[:_FIRST]
            raise InputError(
                f"keep: no {what} is called {pattern!r}. Cure: a name such as {', '.join(near)}, a layer's "
                "name, or a pattern with *"
            )
        found |= own
    return frozenset(found)
