"""Checkpoints with a checksum, replaced as a whole: an interruption at any moment leaves the old or the new.

A checkpoint is what ``torch.save`` writes, then 16 bytes of BLAKE2b over that, then ``laconic1``.
``torch.load`` does not look at the checksums in its own archive: most flipped bits would come back as other
weights.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch

from laconic.errors import RunFolderError
from laconic.files import check_is_file, replacing
from laconic.train.run_folder import after_a_cure

_MARK = b"laconic1"
_DIGEST_BYTES = 16
_PIECE_BYTES = 2**20


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors and plain Python values) so that ``path`` is either old or new, never half.

    Raises WriteError if the disk is full; the old checkpoint then still stands.
    """
    with replacing(path, again=after_a_cure(path.parent)) as stream:
        hashed = _Hashed(stream)
        try:
            torch.save(state, cast("IO[bytes]", hashed))
        except RuntimeError:  # torch's own name for what its stream raised
            if hashed.error is not None:
                raise hashed.error from None
            raise
        stream.write(hashed.digest() + _MARK)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The state in ``path``, or None if there is none. Nothing in it can run code (weights_only).

    Raises RunFolderError for a file that is damaged, cut short, without a checksum, or no state at all.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as stream:
            check_is_file(stream)
            _check_digest(stream)
            state = torch.load(stream, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except Exception as error:
        raise RunFolderError(
            f"checkpoint {path} cannot be read: {error}. Cure: delete it and --resume: what it held is "
            "trained again"
        ) from error
    if not isinstance(state, dict):
        raise RunFolderError(
            f"checkpoint {path} holds a {type(state).__name__}, no state. Cure: delete it and --resume"
        )
    return state


def _without_waiting(path: str, flags: int) -> int:
    """Opening a pipe would wait for its other end."""
    return os.open(path, flags | os.O_NONBLOCK)


def _check_digest(stream: BinaryIO) -> None:
    """Refuse a stream whose checksum is missing or wrong; leaves it at its start."""
    length = stream.seek(0, os.SEEK_END) - _DIGEST_BYTES - len(_MARK)
    stream.seek(max(0, length))
    end = stream.read()
    if length < 0 or not end.endswith(_MARK):
        raise RunFolderError("it has no checksum: it was cut short, or an older version wrote it")
    stream.seek(0)
    found = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    while length > 0:
        piece = stream.read(min(length, _PIECE_BYTES))
        if not piece:
            raise RunFolderError("it became shorter while it was read")
        found.update(piece)
        length -= len(piece)
    if found.digest() != end[:_DIGEST_BYTES]:
        raise RunFolderError("it is damaged: its bytes are not those that its checksum was made of")
    stream.seek(0)


class _Hashed:
    """A stream that remembers the checksum of what was written, and what kept it from being written."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._hash = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Pass on and remember."""
        self._hash.update(data)
        try:
            return self._stream.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        """Pass on."""
        self._stream.flush()

    def digest(self) -> bytes:
        """The checksum of all that was written."""
        return self._hash.digest()
