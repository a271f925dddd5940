"""Bits that a file's weights need by their posterior, from the record beside the file. No torch.

A .lac file holds no posterior. ``laconic compress`` writes one record.json into the folder of the file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from laconic.files import file_hash
from laconic.quantize.likelihood import BITS, NATS, LayerBits
from laconic.text import shortened

RECORD_FILE = "record.json"
_MOST_BYTES = 1 << 26


def bits_beside(path: str, file_bytes: int) -> str:
    """A table of each layer's bits by posterior; empty where no record of this very file says any.

    Args:
        path: The file.
        file_bytes: Its length: a record of another length, or with another hash, is not of this one.

    Returns:
        Lines of at most 80 columns.
    """
    record = _record(Path(path).with_name(RECORD_FILE))
    rows = _rows(record, file_bytes)
    if not rows or record.get("file_hash", "") not in ("", file_hash(path)):
        return ""
    head = (
        f"{'bits by posterior':<30} {'kept':>9} {'mean':>7} {'10 %':>7} {'50 %':>7} {'90 %':>7} {'width':>5}"
    )
    lines = [head, "-" * len(head)]
    lines += [
        f"{shortened(name, 30):<30} {r.weights:>9} {r.mean:>7.2f} {r.low:>7.2f} {r.median:>7.2f} "
        f"{r.high:>7.2f} {r.width:>5}"
        for name, r in rows.items()
    ]
    told = f"width: bits of a uniform grid that loses at most {NATS:g} nats a weight"
    return "\n".join([*lines, told])


def _record(path: Path) -> Any:
    """The record as JSON; None where there is none that can be read."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            return None
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _rows(record: Any, file_bytes: int) -> dict[str, LayerBits]:
    """The layers' bits by name; none of a record of another file, or of another form."""
    if not isinstance(record, dict) or record.get("file_bytes") != file_bytes:
        return {}
    facts = record.get("facts")
    told = facts.get(BITS) if isinstance(facts, dict) else None
    if not isinstance(told, dict):
        return {}
    fields = set(LayerBits.__dataclass_fields__)
    found = {}
    for name, row in told.items():
        if not isinstance(row, dict) or set(row) != fields:
            return {}
        if not all(isinstance(v, int | float) for v in row.values()):
            return {}
        found[name] = LayerBits(**row)
    return found
