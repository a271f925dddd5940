"""How much smaller a file is than its original network: one definition for all commands. No torch."""

from __future__ import annotations

import json
import os
from pathlib import Path

from laconic.files import file_hash
from laconic.text import ratio_text

RECORD = "record.json"
"""What a run writes beside its file."""


def bytes_before(path: str | os.PathLike[str], length: int) -> int | None:
    """The original network's bytes in float32, from the record that a run wrote beside its file.

    A file alone does not know them: units that were removed have left no trace in it.

    Args:
        path: The file.
        length: Its length; a record of a file of another length, or with another hash, is not used.

    >>> bytes_before("no/such/model.lac", 10) is None
    True
    """
    try:
        found = json.loads((Path(path).parent / RECORD).read_bytes())
        before, same = found["bytes_before"], found["file_bytes"] == length
        same = same and found.get("file_hash", "") in ("", file_hash(path))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return before if same and type(before) is int and before > 0 else None


def smaller_text(path: str | os.PathLike[str], length: int, weights: int) -> str:
    """How many times smaller a file is than the original network or, where nothing says how large that was,
    than the weights that the file holds.

    >>> smaller_text("no/such/model.lac", 1000, 2500)
    '10.0x smaller than its 10.0 kB of float32'
    """
    before = bytes_before(path, length)
    if before is None:
        return ratio_text(4 * weights, length)
    return ratio_text(before, length, "the original network's")
