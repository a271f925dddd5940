"""A model as a .lac file on disk."""

from __future__ import annotations

import os

from laconic.errors import at
from laconic.files import read_input, write_bytes
from laconic.pack.file.container import decode, encode
from laconic.pack.wire.limits import DEFAULT, Limits
from laconic.records import PackedModel


def write(path: str | os.PathLike[str], model: PackedModel) -> int:
    """Write a model as a .lac file and return its size in bytes.

    The file is whole or untouched (see :func:`laconic.files.write_bytes`). Raises WriteError.
    """
    return write_bytes(path, encode(model))


def read(path: str | os.PathLike[str], *, limits: Limits = DEFAULT) -> PackedModel:
    """Read a .lac file; ``limits`` bounds what it may claim, and the memory and work of decoding it.

    Raises ``ReadError`` when it cannot be opened, ``FileFormatError`` when it is wrong, ``LimitError`` beyond
    the limits.
    """
    data = read_input(path)
    with at(f"reading {os.fspath(path)!r}"):
        return decode(data, limits=limits)
