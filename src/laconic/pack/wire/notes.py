"""What a file of weights alone says besides its tensors: its parent, metadata (FORMAT.md, "Notes")."""

from __future__ import annotations

from typing import NamedTuple

from laconic.errors import CorruptFileError
from laconic.varint import Reader, Writer

MARK = b"\0\0"
"""How the block starts that is a graph in other files: no graph has no inputs and no nodes."""
DIGEST_BYTES = 32
_PARENT, _METADATA = 1, 2
_MAX_TEXT = 1 << 20


class Parent(NamedTuple):
    """The file that an incremental file needs: SHA-256 of its bytes, and the name it had."""

    digest: bytes
    name: str


class Notes(NamedTuple):
    """The parent, and pairs of texts in rising order of their keys."""

    parent: Parent | None = None
    metadata: tuple[tuple[str, str], ...] = ()


def notes_bytes(notes: Notes) -> bytes:
    """The block of a file without a graph; empty for empty notes."""
    if notes.parent is None and not notes.metadata:
        return b""
    out = Writer()
    out.raw(MARK)
    out.byte((notes.parent is not None) * _PARENT | bool(notes.metadata) * _METADATA)
    if notes.parent is not None:
        out.raw(notes.parent.digest)
        out.block(notes.parent.name.encode())
    if notes.metadata:
        out.varint(len(notes.metadata))
        for pair in notes.metadata:
            for text in pair:
                out.block(text.encode())
    return bytes(out.data)


def read_notes(data: bytes) -> Notes | None:
    """The notes of a block; None where it is a graph's. Raises ``FileFormatError`` for invalid ones."""
    if not data:
        return Notes()
    if data[:2] != MARK:
        return None
    source = Reader(data[2:], "the notes")
    flags = source.byte()
    if not 0 < flags < 4:
        raise CorruptFileError(f"the notes have flags {flags}")
    parent, metadata = None, []
    if flags & _PARENT:
        parent = Parent(source.raw(DIGEST_BYTES), _text(source))
    if flags & _METADATA:
        metadata = [(_text(source), _text(source)) for _ in range(source.count("pairs"))]
    keys = [key for key, _ in metadata]
    if source.left or bool(metadata) != bool(flags & _METADATA) or sorted(set(keys)) != keys:
        raise CorruptFileError("the notes end in other bytes, or their keys do not rise")
    return Notes(parent, tuple(metadata))


def _text(source: Reader) -> str:
    data = source.block("letters")
    if len(data) > _MAX_TEXT:
        raise CorruptFileError(f"a text of the notes has {len(data)} bytes, the limit is {_MAX_TEXT}")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise CorruptFileError("a text of the notes is not UTF-8") from error
