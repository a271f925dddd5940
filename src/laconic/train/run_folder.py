"""A run folder: settings, log, checkpoints and results of one run, used by one process at a time."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from laconic.errors import RunFolderError
from laconic.files import append_text, open_lock, read_file, remove_leftovers, write_text

SETTINGS = "settings.json"
REQUEST = "request"
"""The entry of settings.json that holds the options as they were asked for; it is not compared."""
LOCK = "lock"
LOG = "log.txt"
CHECKPOINT = "checkpoint.pt"
REFERENCE = "reference.pt"
REFERENCE_CHECKPOINT = "reference-checkpoint.pt"
MODEL_FILE = "model.lac"
RECORD_FILE = "record.json"
HISTORY = "history.json"
REPORT_FILE = "report.json"
PICTURE_FILE = "report.png"
_WORK = (LOG, CHECKPOINT, REFERENCE, REFERENCE_CHECKPOINT, MODEL_FILE, RECORD_FILE, HISTORY)
START = "starting_weights"
"""The entry of settings.json with the checksum of the network that the run began with."""
_STAGES = ("checkpoint-*.pt", "rewind-*.pt")


class RunFolder:
    """Paths and small atomic writes inside one run's folder; get one from :func:`open_run`."""

    def __init__(self, root: Path, lock: int) -> None:
        self.root = root
        self._lock = lock

    def path(self, name: str) -> Path:
        """Where ``name`` lies in this folder."""
        return self.root / name

    def log(self, text: str) -> None:
        """Append one dated line to log.txt."""
        self.check_is_ours()
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n"
        append_text(self.path(LOG), line, again=after_a_cure(self.root))

    def write_json(self, name: str, data: Mapping[str, Any]) -> None:
        """Write JSON beside, then rename: the file is old or new, never half."""
        self.check_is_ours()
        text = json.dumps(data, indent=2, sort_keys=True) + "\n"
        write_text(self.path(name), text, again=after_a_cure(self.root))

    def read_json(self, name: str) -> dict[str, Any] | None:
        """The JSON object in ``name``, or None if the file is not there."""
        path = self.path(name)
        try:
            data = json.loads(read_file(path))
            if not isinstance(data, dict):
                raise TypeError(f"a {type(data).__name__}, no object")
            return data
        except FileNotFoundError:
            return None
        except (OSError, TypeError, ValueError, RecursionError) as error:
            raise RunFolderError(
                f"{path} is not JSON: {error}. Cure: remove the folder and start anew"
            ) from error

    def check_start(self, weights: str) -> None:
        """Keep what tells the starting weights from others, or compare it with that of an earlier run here.

        Args:
            weights: As :func:`laconic.train.job.weights_told` returns it.

        Raises:
            RunFolderError: The run in this folder began with other weights.
        """
        settings = self.read_json(SETTINGS) or {}
        before = settings.get(START)
        if before not in (None, weights):
            raise RunFolderError(
                f"{self.root} holds a run that began with other weights: {before}, not {weights}. "
                "Cure: resume with the network that the run began with, or name another folder with --out"
            )
        if before is None:
            self.write_json(SETTINGS, {**settings, START: weights})

    def work(self) -> list[str]:
        """The files in the folder that runs write, from which a resumed run continues."""
        return _work_in(self.root)

    def check_is_ours(self) -> None:
        """Raises RunFolderError when the folder was removed, or replaced by another run's, meanwhile."""
        if not _is_path_of(self._lock, self.path(LOCK)):
            raise RunFolderError(
                f"{self.root} was removed or replaced while the run was at work in it. "
                "Cure: run again, and leave the folder until the run has ended"
            )


def _work_in(root: Path) -> list[str]:
    stages = (path.name for kind in _STAGES for path in sorted(root.glob(kind)))
    return [*(name for name in _WORK if os.path.lexists(root / name)), *stages]


def after_a_cure(root: Path) -> str:
    """How a run goes on whose folder could not be written: a folder without any work in it is removed.

    >>> after_a_cure(Path("no/such/folder"))
    'run again'
    """
    return "--resume" if _work_in(root) else "run again"


@contextmanager
def open_run(
    root: Path,
    settings: Mapping[str, Any],
    *,
    resume: bool = False,
    request: Mapping[str, Any] | None = None,
    goes_on: bool = True,
) -> Iterator[RunFolder]:
    """Take a run folder for this process until the block ends (also if the process is killed).

    A new folder gets ``settings.json``. If the run fails before it left anything else, what was made here is
    removed again, so that a mistyped name leaves nothing behind; if it is interrupted later, the interruption
    has the note that ``--resume`` continues it. A run that was killed before it wrote anything is ignored.
    Raises RunFolderError if another process is in it, if it holds a run and ``resume`` is off, or if that run
    had other settings (the first difference is named). ``request`` holds the options as they were asked for,
    from which a command line begins again. ``goes_on`` says whether such a run can be resumed at all: where
    it cannot, no message offers that.
    """
    made = _make(root)
    kept = False
    try:
        with _locked(root) as lock:
            folder = RunFolder(root, lock)
            remove_leftovers(root)
            _check_settings(folder, json.loads(json.dumps(settings)), request, resume, goes_on)
            try:
                yield folder
                kept = True
            except BaseException as error:
                kept = bool(folder.work())
                if not kept:
                    _remove_files(folder)
                elif isinstance(error, KeyboardInterrupt):
                    error.add_note(
                        f"go on with --resume --out {root}" if goes_on else "run it again, with another --out"
                    )
                raise
    finally:
        if not kept:
            for folder_made in made:
                with suppress(OSError):  # it is not empty, or gone
                    folder_made.rmdir()


def check_free(root: Path, *, goes_on: bool = True) -> None:
    """What :func:`open_run` refuses of a new run, before anything is loaded for it; nothing is made.

    Args:
        root: The folder.
        goes_on: Whether a run in it could be resumed.

    Raises:
        RunFolderError: The folder holds a run, or another process is in it.
    """
    work = _work_in(root)
    if work:
        with _locked(root):
            raise _taken(root, work, goes_on)


def _taken(root: Path, work: list[str], goes_on: bool) -> RunFolderError:
    """The error for a folder that a new run cannot have."""
    if not os.path.lexists(root / SETTINGS):
        return RunFolderError(
            f"{root} holds {work[0]} and no {SETTINGS} to say of which run. "
            "Cure: name another folder with --out, or remove that file"
        )
    on = f"--resume --out {root} to go on with it, or " if goes_on else ""
    return RunFolderError(
        f"{root} holds a run already. Cure: {on}name another folder with --out, or remove this one"
    )


def _make(root: Path) -> list[Path]:
    """Make the folder and its parents; returns those that were not there, the innermost first."""
    try:
        missing = [p for p in (root, *root.parents) if not p.exists()]
        root.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise _cannot_use(root, error) from error
    return missing


def _cannot_use(root: Path, error: Exception) -> RunFolderError:
    return RunFolderError(f"cannot use {root} as a run folder: {error}. Cure: name another with --out")


@contextmanager
def _locked(root: Path) -> Iterator[int]:
    """The lock of a run folder, held within the block; the system lets go of a dead process's lock itself."""
    path = root / LOCK
    while True:
        try:
            lock = open_lock(path)
        except OSError as error:
            raise _cannot_use(root, error) from error
        try:
            _take(lock, root)
            if _is_path_of(lock, path):
                yield lock
                return
            # A run that ended without leaving anything removed the file between our two calls.
        finally:
            os.close(lock)


def _take(lock: int, root: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RunFolderError(
            f"another run is at work in {root}. Cure: wait for it, or name another folder with --out"
        ) from error
    except OSError as error:
        raise RunFolderError(
            f"{root} cannot be locked ({error}). Cure: --out on a file system that has locks"
        ) from error


def _is_path_of(handle: int, path: Path) -> bool:
    """Whether the open file is (still) the one under this name."""
    try:
        here, there = os.fstat(handle), os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _remove_files(folder: RunFolder) -> None:
    for name in (SETTINGS, LOCK):
        with suppress(OSError):
            folder.path(name).unlink()


def _check_settings(
    folder: RunFolder,
    settings: dict[str, Any],
    request: Mapping[str, Any] | None,
    resume: bool,
    goes_on: bool,
) -> None:
    work = folder.work()
    if not work:  # a new folder, or a run that was killed before it had done anything
        folder.write_json(SETTINGS, settings if request is None else {**settings, REQUEST: request})
        return
    old = folder.read_json(SETTINGS)
    if old is None or not resume:
        raise _taken(folder.root, work, goes_on)
    found = _difference({key: value for key, value in old.items() if key not in (START, REQUEST)}, settings)
    if found is not None:
        key, before, now = found
        raise RunFolderError(
            f"{folder.root} holds a run with {key}={before!r}, not {now!r}. "
            "Cure: resume with the same settings, or name another folder with --out"
        )


def _difference(old: Any, new: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """The first field in which two trees of settings differ: its dotted name, its old and its new value.

    >>> _difference({"stages": [{"fit": {"epochs": 4}}]}, {"stages": [{"fit": {"epochs": 5}}]})
    ('stages.1.fit.epochs', 4, 5)
    """
    if isinstance(old, dict) and isinstance(new, dict):
        pairs = [(str(key), old.get(key), new.get(key)) for key in sorted({*old, *new})]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(str(k), a, b) for k, (a, b) in enumerate(zip(old, new, strict=True), 1)]
    else:
        return None if old == new else (name, old, new)
    for key, before, now in pairs:
        found = _difference(before, now, f"{name}.{key}" if name else key)
        if found is not None:
            return found
    return None
