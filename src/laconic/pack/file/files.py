"""A model as a .lac file on disk."""

from __future__ import annotations

import os

from laconic.errors import at
from laconic.files import read_input, write_bytes
from laconic.pack.file.container import decode, encode
from laconic.records import PackedModel
from laconic.records.limits import DEFAULT, Limits


def write(path: str | os.PathLike[str], model: PackedModel) -> int:
    """Write a model as a .lac file, whole or not at all (see :func:`laconic.files.write_bytes`).

    Args:
        path: The file; an existing one is replaced.
        model: As for :func:`laconic.pack.encode`.

    Returns:
        The size of the file in bytes.

    Raises:
        InputError: The format cannot hold the model.
        WriteError: The file cannot be written; an existing one is unchanged.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     size = write(f"{folder}/empty.lac", PackedModel(()))
    ...     print(size, read(f"{folder}/empty.lac").tensors)
    16 ()
    """
    return write_bytes(path, encode(model))


def read(path: str | os.PathLike[str], *, limits: Limits = DEFAULT) -> PackedModel:
    """Read a .lac file.

    Args:
        path: The file.
        limits: What the file may claim, and the memory and work that decoding may take.

    Returns:
        The model that was written.

    Raises:
        ReadError: The file cannot be opened.
        FileFormatError: It is invalid; the message names the path.
        LimitError: It needs more than the limits allow.

    >>> read("absent.lac")
    Traceback (most recent call last):
    ...
    laconic.errors.ReadError: cannot read absent.lac: No such file or directory. Cure: check the path
    """
    data = read_input(path)
    with at(f"reading {os.fspath(path)!r}"):
        return decode(data, limits=limits)
