"""The compiled reading half of the adaptive codec (``adaptive.c``): whether it is here, and how it is called.

It gives the integers that ``lines.py``, ``cells.py`` and ``sizes.py`` give, many times as fast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Taken = tuple[int, int]
"""Words that are left, and the coder's state."""


class Extension(Protocol):
    """What ``adaptive.c`` offers; each function starts with the words, how many are left, and the state."""

    lines: Callable[..., Taken]
    cells: Callable[..., Taken]
    signs: Callable[..., Taken]
    sizes: Callable[..., Taken]


def extension() -> Extension | None:
    """The compiled module, or None where the package was installed without a compiler."""
    try:
        from laconic.pack import _adaptive  # type: ignore[attr-defined]
    except ImportError:
        return None
    found: Extension = _adaptive
    return found
