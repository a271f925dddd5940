"""Atomic file writes: the only module of the library that writes to a disk.

Bytes are written to a temporary file beside the target and synchronised to the disk; then it is renamed to
the target. The temporary file has a random name and must not exist before (O_EXCL), so a symbolic link that
another user placed in the folder is not followed. Files that are written in place (a log, a lock) are opened
with O_NOFOLLOW.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from laconic.errors import InputError, ReadError, WriteError

if TYPE_CHECKING:
    from pathlib import Path

AnyPath = str | os.PathLike[str]

_FREE = "free space"
_OTHER = "choose a folder that can be written"
_CURES = {
    errno.ENOSPC: _FREE,
    errno.EDQUOT: _FREE,
    errno.EFBIG: _FREE,
    errno.ENOENT: "make the folder that is missing, or choose another",
    errno.ENOTDIR: "choose a folder: a part of this path is a file",
    errno.ELOOP: "remove the symbolic link",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EISDIR: "choose a name that no folder has",
    errno.ENXIO: "choose the name of a file: this one is a device or a pipe",
}
_LEFTOVER = re.compile(r"\..*\.[0-9a-f]{16}\.part", re.DOTALL)


def write_bytes(path: AnyPath, data: bytes | memoryview, *, again: str = "run again") -> int:
    """Write a file atomically: either all bytes are written, or an existing file is unchanged.

    A process that is killed while writing may leave a temporary file ``.<name>.*.part`` beside it, never a
    part of the file. A symbolic link at ``path`` is replaced, not followed.

    Args:
        path: The file; an existing one is replaced.
        data: All bytes of it.
        again: The last step of the cure in the error, once the cause is removed.

    Returns:
        The number of bytes written.

    Raises:
        WriteError: The disk is full, or writing is not permitted; the temporary file is removed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_bytes(f"{folder}/x.bin", b"abc")
    3
    """
    with _sibling(path, again) as handle:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
    return len(data)


def write_text(path: AnyPath, text: str, *, again: str = "run again") -> int:
    """:func:`write_bytes` for text, in UTF-8."""
    return write_bytes(path, text.encode(), again=again)


@contextmanager
def replacing(path: AnyPath, *, again: str = "run again") -> Iterator[BinaryIO]:
    """:func:`write_bytes` as a stream; after an exception in the block an existing file is unchanged."""
    with _sibling(path, again) as handle, os.fdopen(handle, "wb", closefd=False) as stream:
        yield stream


@contextmanager
def scratch(path: AnyPath, *, again: str = "run again") -> Iterator[BinaryIO]:
    """A temporary file without a name in the folder of ``path``, to be read and written; it is removed.

    Raises WriteError where it cannot be made or written.
    """
    import tempfile
    from pathlib import Path

    try:
        with tempfile.TemporaryFile(dir=Path(path).parent) as stream:
            yield stream
    except OSError as error:
        if isinstance(error, ReadError | WriteError):
            raise
        raise _write_error(path, error, again) from error


def append_text(path: AnyPath, text: str, *, again: str = "run again") -> None:
    """Append to a file, which is created if needed, and removed if nothing could be written to it.

    Raises WriteError (also for a symbolic link).
    """
    try:
        handle = os.open(path, _FRESH & ~os.O_EXCL | os.O_APPEND | os.O_NONBLOCK, 0o666)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise OSError(errno.ENXIO, "not a file")
            os.write(handle, text.encode())
        finally:
            os.close(handle)
    except OSError as error:
        _remove_empty(path)
        raise _write_error(path, error, again) from error


def _remove_empty(path: AnyPath) -> None:
    with suppress(OSError):
        found = os.lstat(path)
        if stat.S_ISREG(found.st_mode) and not found.st_size:
            os.unlink(path)


def check_out(out: AnyPath, needed: AnyPath, what: str) -> None:
    """Raises InputError where a file that is to be written is one that is read."""
    if os.path.exists(out) and os.path.exists(needed) and os.path.samefile(out, needed):
        raise InputError(f"{os.fspath(out)} is {what}, which would be lost. Cure: another output")


def read_file(path: AnyPath) -> bytes:
    """All bytes of a file. Raises OSError, also for a pipe or a device (reading a pipe could block)."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as stream:
        check_is_file(stream)
        return stream.read()


def file_hash(path: AnyPath) -> str:
    """The hash of a file's bytes (BLAKE2b, 16 bytes in hexadecimal digits), by which a record knows its file.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = write_bytes(f"{folder}/x.bin", b"abc")
    ...     file_hash(f"{folder}/x.bin")
    'cf4ab791c62b8d2b2109c90275287816'
    """
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def read_input(path: AnyPath) -> bytes:
    """All bytes of a file that a user named.

    Raises:
        ReadError: It does not exist, or opening it is not permitted; the message names the path.

    >>> read_input("absent.lac")
    Traceback (most recent call last):
    ...
    laconic.errors.ReadError: cannot read absent.lac: No such file or directory. Cure: check the path
    """
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: AnyPath, error: OSError) -> ReadError:
    """The error for a file that a user named and that cannot be opened: it names the path and the cure."""
    cause, cure = error.strerror or error, "check the path"
    if isinstance(error, IsADirectoryError):
        cause, cure = "it is a folder", "the file in it (of a run: model.lac)"
    return ReadError(f"cannot read {os.fspath(path)}: {cause}. Cure: {cure}")


def check_is_file(stream: io.IOBase | BinaryIO) -> None:
    """Raises OSError where an open stream is a pipe or a device."""
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        raise OSError(errno.ENXIO, "not a file")


def open_lock(path: AnyPath) -> int:
    """A handle on a lock file, which is created if needed. Raises OSError, also for a symbolic link."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files of killed processes; no other process may be writing in ``folder``."""
    for entry in folder.iterdir():
        if is_leftover(entry.name):
            with suppress(OSError):
                entry.unlink()


def is_leftover(name: str) -> bool:
    """Whether a file's name is that of a temporary file.

    >>> is_leftover(".model.lac.0123456789abcdef.part"), is_leftover("model.lac")
    (True, False)
    """
    return _LEFTOVER.fullmatch(name) is not None


def user_cache() -> str | None:
    """The user's cache folder for this library; None where the user has no home (caches are then off)."""
    home = os.path.expanduser("~")
    # no HOME, and a user id without an account
    return None if home.startswith("~") else os.path.join(home, ".cache", "laconic")


_FRESH = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def _sibling(path: AnyPath, again: str) -> Iterator[int]:
    """A handle on a new temporary file, which is renamed to ``path`` if the block ends without exception."""
    from pathlib import Path  # not needed for reading

    target = Path(path)
    # A name of 255 bytes, the longest one allowed, leaves no room for a longer temporary name.
    sibling = target.parent / f".{target.name[:40]}.{os.urandom(8).hex()}.part"
    made = False
    try:
        _check_target(target)
        handle = os.open(sibling, _FRESH, 0o666)
        made = True
        try:
            yield handle
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(sibling, target)
    except BaseException as error:
        if made:
            with suppress(OSError):
                os.unlink(sibling)
        if isinstance(error, OSError):
            raise _write_error(target, error, again) from error
        raise
    _sync_folder(target.parent)


def _check_target(target: Path) -> None:
    """Refuse to replace a folder, a device or a pipe by a file (root could)."""
    try:
        mode = os.lstat(target).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, "a folder has that name")
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise OSError(errno.ENXIO, "not a file")


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _write_error(target: AnyPath, error: OSError, again: str) -> WriteError:
    cure = _CURES.get(error.errno or 0, _OTHER)
    return WriteError(
        f"could not write {os.fspath(target)!r}: {error.strerror or error}; an existing file is "
        f"unchanged. Cure: {cure}, then {again}"
    )
