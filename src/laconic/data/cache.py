"""The cache folder of data: each file in it is complete and was checked by its MD5."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from laconic.data.sources import Source, SourceError
from laconic.data.spec import DataFile, DataSpec
from laconic.errors import DataError, DownloadError, InputError, WriteError
from laconic.files import user_cache, write_bytes

CACHE_VARIABLE = "LACONIC_DATA"


def cache_folder(cache: str | os.PathLike[str] | None = None) -> Path | None:
    """The folder for data: ``cache``, else the environment's LACONIC_DATA, else ~/.cache/laconic/data.

    None for a user without a home folder: what is fetched is then used and not kept. Raises InputError for a
    ``~name`` that the system does not know.

    >>> str(cache_folder("here"))
    'here'
    """
    chosen = cache or os.environ.get(CACHE_VARIABLE)
    if not chosen:
        home = user_cache()
        return None if home is None else Path(home) / "data"
    try:
        return Path(chosen).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"the folder for data, {os.fspath(chosen)!r}, begins with an unknown user's home. "
            f"Cure: a path without ~, as {CACHE_VARIABLE} or cache="
        ) from error


def obtain(spec: DataSpec, folder: Path | None) -> dict[str, bytes]:
    """The bytes of all files of ``spec`` by name, from ``folder`` or else from its sources, all checked.

    What had to be fetched is kept in ``folder``; with None, nothing is. Raises DataError (a damaged file in
    the cache), DownloadError (no source gave the right bytes), WriteError (the cache cannot be written).
    """
    have: dict[str, bytes] = {}
    if folder is not None:
        have = {file.name: data for file in spec.files if (data := _cached(file, folder)) is not None}
    missing = [file for file in spec.files if file.name not in have]
    if missing:
        fetched = _fetch(spec, missing, folder)
        if folder is not None:
            _keep(folder, fetched)
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
        raise DataError(
            f"cannot read {path}: {error}. Cure: make it readable, or set {CACHE_VARIABLE} to another folder"
        ) from error
    found = md5(data)
    if found != file.md5:
        raise DataError(
            f"{path} is damaged: expected MD5 {file.md5}, found {found} ({len(data)} bytes). "
            "Cure: delete it; it will be fetched again"
        )
    return data


def _fetch(spec: DataSpec, missing: Sequence[DataFile], folder: Path | None) -> dict[str, bytes]:
    """Ask one source after the other until one has every missing file right."""
    tried: list[str] = []
    for source in spec.sources:
        try:
            return _fetch_checked(source, missing)
        except SourceError as error:
            tried.append(f"  {source}: {error}")
    wanted = "\n".join(f"  {file.name}  MD5 {file.md5}" for file in missing)
    where = f"the cache {folder}" if folder else f"a cache (there is no home, and no {CACHE_VARIABLE})"
    place = folder or f"a folder that {CACHE_VARIABLE} names"
    raise DownloadError(
        f"{spec.name} is not in {where} and could not be fetched. Tried:\n"
        + "\n".join(tried)
        + f"\nCure: connect to the network, or put these files (unpacked) into {place} by hand:\n{wanted}"
    )


def _fetch_checked(source: Source, missing: Sequence[DataFile]) -> dict[str, bytes]:
    fetched = source.fetch([file.name for file in missing])
    for file in missing:
        found = md5(fetched[file.name])
        if found != file.md5:
            raise SourceError(f"{file.name}: wrong MD5 {found}")
    return fetched


def _keep(folder: Path, fetched: Mapping[str, bytes]) -> None:
    """Each file is kept whole, or not at all if the process is killed."""
    elsewhere = f"set {CACHE_VARIABLE} to another folder"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"could not make the folder {folder}: {error}. Cure: {elsewhere}") from error
    for name, data in fetched.items():
        write_bytes(folder / name, data, again=f"run again, or {elsewhere}")
