"""Keeps measured times in a small file, so that a network is measured once on a machine.

A line is a key, a tab, and ``name=seconds`` for each implementation. (Importing json takes a millisecond of
each start.)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

from laconic.files import read_file, user_cache, write_text
from laconic.runtime.engines.cpu import processor

CACHE_VARIABLE = "LACONIC_CACHE"
MOST_BYTES = 2**22
FORM = 1


def cache_file() -> str | None:
    """``engines.txt`` in the environment's LACONIC_CACHE, else in ~/.cache/laconic.

    None where there is no home folder: nothing is kept then, and each load measures.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    folder = os.path.expanduser(chosen) if chosen else user_cache()
    if folder is None or folder.startswith("~"):  # "~name" of an unknown user
        return None
    return os.path.join(folder, "engines.txt")


def machine() -> str:
    """What the measurements depend on beside the layer: the processor and the runtime."""
    import onnxruntime

    return f"{processor()}, {os.cpu_count()} cores, onnxruntime {onnxruntime.__version__}, form {FORM}"


def read_choices(path: str | os.PathLike[str] | None) -> dict[str, dict[str, float]]:
    """Seconds by implementation for each key; a missing or unreadable file counts as empty."""
    if path is None:
        return {}
    try:
        if os.stat(path).st_size > MOST_BYTES:
            return {}
        lines = read_file(path).decode().splitlines()
    except (OSError, ValueError):
        return {}
    found = {}
    for line in lines:
        key, _, text = line.partition("\t")
        times = _times(text)
        if times:
            found[key] = times
    return found


def _times(text: str) -> dict[str, float] | None:
    """The seconds of ``dense=4e-05 sparse=8e-06``; None for any other text."""
    try:
        found = {name: float(seconds) for name, seconds in (word.split("=") for word in text.split(" "))}
    except ValueError:
        return None
    return found if all(0 < seconds < float("inf") for seconds in found.values()) else None


def keep_choices(path: str | os.PathLike[str] | None, new: Mapping[str, Mapping[str, float]]) -> None:
    """Add to the file; what cannot be written is measured again next time."""
    if not new or path is None:
        return
    merged = {**read_choices(path), **new}
    lines = [
        f"{key}\t{' '.join(f'{name}={seconds!r}' for name, seconds in sorted(times.items()))}\n"
        for key, times in sorted(merged.items())
    ]
    with suppress(OSError):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_text(path, "".join(lines))
