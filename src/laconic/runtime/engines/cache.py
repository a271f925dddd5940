"""Measured choices are kept in a small JSON file, so that a network is measured once on a machine."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from laconic.runtime.cpu import processor

CACHE_VARIABLE = "LACONIC_CACHE"
MOST_BYTES = 2**22
FORM = 1


def cache_file() -> Path:
    """``engines.json`` in the environment's LACONIC_CACHE, else in ~/.cache/laconic."""
    chosen = os.environ.get(CACHE_VARIABLE)
    folder = Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "laconic"
    return folder / "engines.json"


def machine() -> str:
    """What the measurements depend on beside the layer: the processor and the runtime."""
    import onnxruntime

    return f"{processor()}, {os.cpu_count()} cores, onnxruntime {onnxruntime.__version__}, form {FORM}"


def read_choices(path: Path) -> dict[str, dict[str, float]]:
    """Seconds by way for each key; an unreadable or strange file counts as empty."""
    try:
        if path.stat().st_size > MOST_BYTES:
            return {}
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: value for key, value in found.items() if _is_times(value)}


def _is_times(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(s, float) and s > 0 and s == s and s != float("inf") for s in value.values()
    )


def keep_choices(path: Path, new: Mapping[str, Mapping[str, float]]) -> None:
    """Add to the file; what cannot be written is measured again next time."""
    if not new:
        return
    merged = {**read_choices(path), **{key: dict(value) for key, value in new.items()}}
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(merged, indent=1, sort_keys=True), encoding="utf-8")
        os.replace(beside, path)
