"""Integers to bytes and back: the .lac file (FORMAT.md is normative). No torch.

Modules that reading does not need are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from laconic.files import write_bytes
from laconic.pack.file.container import MAGIC, VERSION, decode, encode
from laconic.pack.file.files import read, write
from laconic.records.limits import DEFAULT, Limits

if TYPE_CHECKING:
    from laconic.pack.file.estimates import coded_bytes, estimate_bits, measure_bits
    from laconic.pack.file.inspection import layout
    from laconic.pack.file.lazy import TensorFile, open
    from laconic.pack.file.rows import decode_rows
    from laconic.pack.file.streaming import writing

__all__ = [
    "DEFAULT",
    "MAGIC",
    "VERSION",
    "Limits",
    "TensorFile",
    "coded_bytes",
    "decode",
    "decode_rows",
    "encode",
    "estimate_bits",
    "layout",
    "measure_bits",
    "open",
    "read",
    "write",
    "write_bytes",
    "writing",
]

_LATER = {
    "coded_bytes": "laconic.pack.file.estimates",
    "decode_rows": "laconic.pack.file.rows",
    "estimate_bits": "laconic.pack.file.estimates",
    "measure_bits": "laconic.pack.file.estimates",
    "layout": "laconic.pack.file.inspection",
    "open": "laconic.pack.file.lazy",
    "TensorFile": "laconic.pack.file.lazy",
    "writing": "laconic.pack.file.streaming",
}

if not TYPE_CHECKING:  # a type checker sees the names above and no others

    def __getattr__(name: str) -> Any:
        """Import a name on first use (PEP 562)."""
        if name not in _LATER:
            raise AttributeError(f"module 'laconic.pack' has no attribute {name!r}")
        return getattr(importlib.import_module(_LATER[name]), name)
