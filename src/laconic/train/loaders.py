"""Whether a loader can be read again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Sized
from typing import Any

from torch.utils.data import IterableDataset

from laconic.errors import DataError


def check_reread(loader: Iterable[Any], name: str) -> None:
    """Refuse a loader that gave batches and gives none when it is read again.

    Only loaders that may be such are read: not a list, nor a loader over a data set with examples by index.

    Args:
        loader: Batches that have been read once.
        name: The argument of ``compress`` that they are.

    Raises:
        DataError: A loader that can be read only once.
    """
    data = getattr(loader, "dataset", None)
    by_index = isinstance(data, Sized) and not isinstance(data, IterableDataset)
    if isinstance(loader, Sequence) or by_index or next(iter(loader), None) is not None:
        return
    over = "" if data is None else f" over a {type(data).__name__}"
    raise DataError(
        f"compress: {name}: the batches come from a {type(loader).__name__}{over}, which gave some and then "
        "none: it can be read only once, and each epoch reads it. "
        "Cure: list(...) of it, or a data set whose __iter__ begins anew"
    )
