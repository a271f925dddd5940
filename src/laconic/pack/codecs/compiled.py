"""What is compiled of this room (``coder.c``, ``adaptive.c``): whether it is here, and how it is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

Taken = tuple[int, int]
"""Words that are left (or were written), and the coder's state."""


class Ans(Protocol):
    """The coder of the three kinds of symbols: ``coder.c``, or ``ans.py`` with the same answers."""

    flags: Callable[..., Taken]
    draws: Callable[..., Taken]
    bits: Callable[..., Taken]
    put_flags: Callable[..., Taken]
    put_draws: Callable[..., Taken]
    put_bits: Callable[..., Taken]


class Extension(Protocol):
    """The reading half of the adaptive codec (``adaptive.c``), each function on from where the stream stands.

    It gives the integers that ``lines.py``, ``cells.py`` and ``sizes.py`` give, many times as fast.
    """

    lines: Callable[..., Taken]
    cells: Callable[..., Taken]
    signs: Callable[..., Taken]
    sizes: Callable[..., Taken]


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
