"""A run folder: settings, log, checkpoints and results of one run, used by one process at a time."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from laconic.errors import RunFolderError, WriteError

SETTINGS = "settings.json"
LOCK = "lock"


class RunFolder:
    """Paths and small atomic writes inside one run's folder; get one from :func:`open_run`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        """Where ``name`` lies in this folder."""
        return self.root / name

    def log(self, text: str) -> None:
        """Append one dated line to log.txt."""
        try:
            with open(self.path("log.txt"), "a", encoding="utf-8") as stream:
                stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
        except OSError as error:
            raise WriteError(
                f"could not write {self.path('log.txt')}: {error}. Cure: free some space and --resume"
            ) from error

    def write_json(self, name: str, data: Mapping[str, Any]) -> None:
        """Write JSON beside, then rename: the file is old or new, never half."""
        write_text(self.path(name), json.dumps(data, indent=2, sort_keys=True) + "\n")

    def read_json(self, name: str) -> dict[str, Any] | None:
        """The JSON object in ``name``, or None if the file is not there."""
        path = self.path(name)
        if not path.exists():
            return None
        try:
            data = dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, TypeError, ValueError) as error:
            raise RunFolderError(
                f"{path} is not JSON: {error}. Cure: remove the folder and start anew"
            ) from error
        return data


def write_text(path: Path, text: str) -> None:
    """Write text to a sibling, sync, rename. Raises WriteError (disk full); the old file then stands."""
    beside = path.with_name(path.name + ".part")
    try:
        with open(beside, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise WriteError(f"could not write {path}: {error}. Cure: free some space and run again") from error


@contextmanager
def open_run(root: Path, settings: Mapping[str, Any], *, resume: bool = False) -> Iterator[RunFolder]:
    """Take a run folder for this process until the block ends (also if the process is killed).

    A new folder gets ``settings.json``, and loses it again if the run fails before it left anything else, so
    that a mistyped name does not block the folder. Raises RunFolderError if another process is in it, if it
    holds a run and ``resume`` is off, or if that run had other settings (the first difference is named).
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = open(root / LOCK, "w", encoding="utf-8")  # noqa: SIM115 - held open for the run's lifetime
    except OSError as error:
        raise RunFolderError(
            f"cannot use {root} as a run folder: {error}. Cure: name another with --out"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunFolderError(
                f"another run is at work in {root}. Cure: wait for it, or name another folder with --out"
            ) from error
        folder = RunFolder(root)
        _check_settings(folder, json.loads(json.dumps(settings)), resume)
        try:
            yield folder
        except BaseException:
            if {entry.name for entry in root.iterdir()} <= {LOCK, SETTINGS}:
                folder.path(SETTINGS).unlink(missing_ok=True)
            raise


def _check_settings(folder: RunFolder, settings: dict[str, Any], resume: bool) -> None:
    old = folder.read_json(SETTINGS)
    if old is None:
        folder.write_json(SETTINGS, settings)
        return
    if not resume:
        raise RunFolderError(
            f"{folder.root} holds a run already. Cure: --resume to go on with it, "
            "or name another folder with --out"
        )
    different = sorted(k for k in {*old, *settings} if old.get(k) != settings.get(k))
    if different:
        key = different[0]
        raise RunFolderError(
            f"{folder.root} holds a run with {key}={old.get(key)!r}, not {settings.get(key)!r}. "
            "Cure: resume with the same settings, or name another folder with --out"
        )
