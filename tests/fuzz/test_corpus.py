"""The fuzzer's corpus: each content is decoded, or refused with a LaconicError."""

from __future__ import annotations

import zlib
from pathlib import Path

from laconic.errors import LaconicError
from laconic.pack import MAGIC, Limits, layout
from laconic.runtime.reading import read_model
from tests.attacks.files import varint

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())


def test_every_content_is_read_or_refused() -> None:
    """In this process: no other library gets a graph here."""
    seen = set()
    for path in CORPUS:
        content = path.read_bytes()
        data = MAGIC + b"\x01" + varint(len(content) + 4) + content
        data += zlib.crc32(data).to_bytes(4, "little")
        for read in (read_model, layout):
            try:
                read(data, limits=Limits(elements=100_000))
                seen.add("read")
            except LaconicError as error:
                seen.add(type(error).__name__)
    assert {"read", "CorruptFileError", "LimitError", "TruncatedFileError"} <= seen
