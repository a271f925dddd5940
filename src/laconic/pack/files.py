"""Files on disk: written beside the target and renamed, so the target is whole or untouched."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from laconic.errors import WriteError, at
from laconic.pack.container import decode, encode
from laconic.pack.limits import DEFAULT, Limits
from laconic.records import PackedModel


def write(path: str | os.PathLike[str], model: PackedModel) -> int:
    """Write a model as a .lac file and return its size in bytes.

    The bytes go to a sibling file, reach the disk, and are then renamed over ``path``. On any error
    (a full disk, no permission) the sibling is removed, an older file stands, and ``WriteError`` is
    raised. A process killed half-way may leave a sibling ``.<name>.*.part``, never half a target.
    """
    return write_bytes(path, encode(model))


def write_bytes(path: str | os.PathLike[str], data: bytes) -> int:
    """:func:`write` for bytes that exist already."""
    target = Path(path)
    try:
        handle, sibling = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    except OSError as error:
        raise _write_error(target, error) from error
    try:
        try:
            _write_all(handle, data)
            os.fsync(handle)
        finally:
            os.close(handle)
        os.chmod(sibling, 0o666 & ~_umask())
        os.replace(sibling, target)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(sibling)
        if isinstance(error, OSError):
            raise _write_error(target, error) from error
        raise
    _sync_folder(target.parent)
    return len(data)


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _umask() -> int:
    """The process's file mode mask (mkstemp ignores it and makes private files)."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _write_error(target: Path, error: OSError) -> WriteError:
    return WriteError(
        f"could not write {str(target)!r}: {error.strerror or error}; what was there before still stands. "
        "Cure: free space or choose a folder that can be written, then run again"
    )


def read(path: str | os.PathLike[str], *, limits: Limits = DEFAULT) -> PackedModel:
    """Read a .lac file; raises ``OSError`` when it cannot be opened, ``FileFormatError`` when it is wrong."""
    with at(f"reading {os.fspath(path)!r}"):
        return decode(Path(path).read_bytes(), limits=limits)
