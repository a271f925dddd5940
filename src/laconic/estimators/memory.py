"""What a fit would take, checked before it is taken."""

from __future__ import annotations

from laconic.errors import InputError
from laconic.text import size_text

_FLOAT = 8


def check_design(rows: int, columns: int, limit: int) -> None:
    """Raises InputError where the design matrix and the copy it is scaled into do not fit the limit."""
    need = 2 * _FLOAT * rows * columns
    if need > limit:
        raise InputError(
            f"{columns} basis functions at {rows} training points take {size_text(need)}, max_bytes is "
            f"{size_text(limit)}. Cure: max_bytes={need} if this machine has it, fewer training points, or "
            "kernel='features'"
        )


def check_model(rows: int, columns: int, members: int, limit: int) -> None:
    """Raises InputError where a model with ``members`` relevance vectors does not fit the limit.

    Counted are the design matrix, its products with the members, and their posterior while it is factorised.
    """
    need = _FLOAT * (rows * columns + 2 * columns * members + 4 * members * members)
    if need > limit:
        raise InputError(
            f"a model with {members} relevance vectors of {columns} candidates takes {size_text(need)}, "
            f"max_bytes is {size_text(limit)}. Cure: max_bytes={need} if this machine has it, "
            "algorithm='fast', fewer training points, or a kernel that needs fewer vectors (a smaller gamma)"
        )
