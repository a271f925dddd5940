"""The cache folder: a file is in it whole and checked, or not at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from laconic.data.sources import Source, SourceError
from laconic.data.spec import DataFile, DataSpec
from laconic.errors import DataError, DownloadError, WriteError

CACHE_VARIABLE = "LACONIC_DATA"


def cache_folder(cache: str | os.PathLike[str] | None = None) -> Path:
    """The folder for data: ``cache``, else the environment's LACONIC_DATA, else ~/.cache/laconic/data.

    >>> str(cache_folder("here"))
    'here'
    """
    chosen = cache or os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "laconic" / "data"


def obtain(spec: DataSpec, folder: Path) -> dict[str, bytes]:
    """The bytes of all files of ``spec`` by name, from ``folder`` or else from its sources, all checked.

    What had to be fetched is kept in ``folder``. Raises DataError (a damaged file in the cache),
    DownloadError (no source gave the right bytes), WriteError (the cache cannot be written).
    """
    have = {file.name: data for file in spec.files if (data := _cached(file, folder)) is not None}
    missing = [file for file in spec.files if file.name not in have]
    if missing:
        fetched = _fetch(spec, missing, folder)
        for name, data in fetched.items():
            _keep(folder / name, data)
        have.update(fetched)
    return have


def md5(data: bytes) -> str:
    """MD5 as hex digits: the checksum that these data sets are published with.

    >>> md5(b"")
    'd41d8cd98f00b204e9800998ecf8427e'
    """
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _cached(file: DataFile, folder: Path) -> bytes | None:
    path = folder / file.name
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}. Cure: make it readable, or delete it") from error
    found = md5(data)
    if found != file.md5:
        raise DataError(
            f"{path} is damaged: expected MD5 {file.md5}, found {found} ({len(data)} bytes). "
            "Cure: delete it; it will be fetched again"
        )
    return data


def _fetch(spec: DataSpec, missing: Sequence[DataFile], folder: Path) -> dict[str, bytes]:
    """Ask one source after the other until one has every missing file right."""
    tried: list[str] = []
    for source in spec.sources:
        try:
            return _fetch_checked(source, missing)
        except SourceError as error:
            tried.append(f"  {source}: {error}")
    wanted = "\n".join(f"  {file.name}  MD5 {file.md5}" for file in missing)
    raise DownloadError(
        f"{spec.name} is not in the cache {folder} and could not be fetched. Tried:\n"
        + "\n".join(tried)
        + f"\nCure: connect to the network, or put these files (unpacked) into {folder} by hand:\n{wanted}"
    )


def _fetch_checked(source: Source, missing: Sequence[DataFile]) -> dict[str, bytes]:
    fetched = source.fetch([file.name for file in missing])
    for file in missing:
        found = md5(fetched[file.name])
        if found != file.md5:
            raise SourceError(f"{file.name}: wrong MD5 {found}")
    return fetched


def _keep(path: Path, data: bytes) -> None:
    """Write beside, sync, rename: a killed process leaves the old state, never half a file."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(beside, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(beside, path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise WriteError(
            f"could not write {path}: {error}. Cure: free some space, or set {CACHE_VARIABLE}"
        ) from error
