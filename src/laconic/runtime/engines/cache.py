"""Measured choices are kept in a small JSON file, so that a network is measured once on a machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

from laconic.files import read_file, user_cache, write_text
from laconic.runtime.cpu import processor

CACHE_VARIABLE = "LACONIC_CACHE"
MOST_BYTES = 2**22
FORM = 1


def cache_file() -> str | None:
    """``engines.json`` in the environment's LACONIC_CACHE, else in ~/.cache/laconic.

    None where that folder is in nobody's home: nothing is kept then, and each load measures.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    folder = os.path.expanduser(chosen) if chosen else user_cache()
    if folder is None or folder.startswith("~"):  # "~name" of an unknown user
        return None
    return os.path.join(folder, "engines.json")


def machine() -> str:
    """What the measurements depend on beside the layer: the processor and the runtime."""
    import onnxruntime

    return f"{processor()}, {os.cpu_count()} cores, onnxruntime {onnxruntime.__version__}, form {FORM}"


def read_choices(path: str | os.PathLike[str] | None) -> dict[str, dict[str, float]]:
    """Seconds by way for each key; an unreadable or strange file counts as empty, as none does."""
    if path is None:
        return {}
    import json  # networks of small layers do without

    try:
        if os.stat(path).st_size > MOST_BYTES:
            return {}
        found = json.loads(read_file(path))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: value for key, value in found.items() if _is_times(value)}


def _is_times(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(s, float) and s > 0 and s == s and s != float("inf") for s in value.values()
    )


def keep_choices(path: str | os.PathLike[str] | None, new: Mapping[str, Mapping[str, float]]) -> None:
    """Add to the file; what cannot be written is measured again next time."""
    if not new or path is None:
        return
    import json

    merged = {**read_choices(path), **{key: dict(value) for key, value in new.items()}}
    with suppress(OSError):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_text(path, json.dumps(merged, indent=1, sort_keys=True))
