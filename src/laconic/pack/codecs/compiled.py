"""The compiled modules of this package (``coder.c``, ``adaptive.c``, ``mixed.c``) and their interfaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

Taken = tuple[int, int]
"""Number of words that are left (or were written), and the coder's state."""


class Ans(Protocol):
    """The coder of the three kinds of symbols: ``coder.c``, or ``ans.py`` with the same results."""

    flags: Callable[..., Taken]
    draws: Callable[..., Taken]
    bits: Callable[..., Taken]
    put_flags: Callable[..., Taken]
    put_draws: Callable[..., Taken]
    put_bits: Callable[..., Taken]


class Extension(Protocol):
    """The decoder of the adaptive codec (``adaptive.c``); each function continues at the stream's position.

    It returns the same integers as ``lines.py``, ``cells.py`` and ``sizes.py``, many times faster.
    """

    lines: Callable[..., Taken]
    cells: Callable[..., Taken]
    signs: Callable[..., Taken]
    sizes: Callable[..., Taken]


class Mixing(Protocol):
    """The mixing codec (``mixed.c``): reads all cells from the stream, or gives the flags to code."""

    cells: Callable[..., Taken]
    put_cells: Callable[..., Taken]


def coder() -> Ans:
    """The compiled coder, or the one in Python where the package was installed without a compiler."""
    try:
        from laconic.pack.codecs import _coder  # type: ignore[attr-defined]
    except ImportError:
        return plain_coder()
    return cast(Ans, _coder)


def plain_coder() -> Ans:
    """The coder in Python and NumPy."""
    from laconic.pack.codecs import ans

    return cast(Ans, ans)


def extension() -> Extension | None:
    """The compiled adaptive reader, or None where the package was installed without a compiler."""
    try:
        from laconic.pack.codecs import _adaptive  # type: ignore[attr-defined]
    except ImportError:
        return None
    return cast(Extension, _adaptive)


def mixing() -> Mixing | None:
    """The compiled mixing codec, or None where the package was installed without a compiler."""
    try:
        from laconic.pack.codecs import _mixed  # type: ignore[attr-defined]
    except ImportError:
        return None
    return cast(Mixing, _mixed)
