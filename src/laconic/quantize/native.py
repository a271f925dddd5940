"""The compiled passes over columns, where the package was installed with a compiler."""

from __future__ import annotations

import functools
from typing import Any, Protocol


class Extension(Protocol):
    """What ``columns.c`` offers."""

    def feedback(self, *arguments: Any) -> None:
        """Columns take levels, and the columns behind them make up for the errors."""

    def descent(self, *arguments: Any) -> None:
        """Columns take their best levels, all others given."""


@functools.cache
def extension() -> Extension | None:
    """The compiled module, or None where the package was installed without a compiler."""
    try:
        from laconic.quantize import _columns  # type: ignore[attr-defined]
    except ImportError:
        return None
    return _columns  # type: ignore[no-any-return]
