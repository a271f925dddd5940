"""Integers to bytes and back: the .lac file (FORMAT.md is normative). No torch."""

from laconic.pack.container import MAGIC, VERSION, decode, encode
from laconic.pack.estimates import coded_bytes, estimate_bits, measure_bits
from laconic.pack.files import read, write, write_bytes
from laconic.pack.inspection import layout
from laconic.pack.limits import DEFAULT, Limits

__all__ = [
    "DEFAULT",
    "MAGIC",
    "VERSION",
    "Limits",
    "coded_bytes",
    "decode",
    "encode",
    "estimate_bits",
    "layout",
    "measure_bits",
    "read",
    "write",
    "write_bytes",
]
