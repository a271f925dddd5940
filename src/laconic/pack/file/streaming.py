"""Writes a file tensor by tensor: at no time are two of them in memory."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from laconic.files import AnyPath, replacing, scratch
from laconic.pack.file.container import CRC_BYTES, frame_head, put_head
from laconic.pack.file.tensors import TensorWriter
from laconic.pack.wire.notes import Notes, notes_bytes
from laconic.records import Tensor
from laconic.varint import Writer

_PIECE = 1 << 20
_STREAM_BYTES = 4  # of a stream without symbols


class FileWriter:
    """Takes the tensors of a file of weights, one after the other (see :func:`writing`)."""

    def __init__(self, spool: BinaryIO, threads: int | None) -> None:
        self._spool, self._head = spool, Writer()
        self._tensors = TensorWriter(self._head, threads, alone=True)
        self._names: list[str] = []
        self.aliases: dict[str, str] = {}
        self.notes = Notes()

    def add(self, tensor: Tensor) -> int:
        """Append a tensor, and return the bytes that it takes. Raises ``InputError`` for one that no file
        can hold.
        """
        self._tensors.add(tensor)
        self._names.append(tensor.name)
        size = len(self._head.data)
        self._spool.write(self._head.data)
        self._head.data.clear()
        return size

    def size(self) -> int:
        """Bytes of a file that ends here; exact unless integers are in the common stream."""
        head = self._head_bytes()
        body = len(head) + self._spool.tell() + _STREAM_BYTES
        return len(frame_head(body)) + body + CRC_BYTES

    def _head_bytes(self) -> bytes:
        head = Writer()
        put_head(head, notes_bytes(self.notes), self._names, sorted(self.aliases.items()))
        return bytes(head.data)

    def finish(self, out: BinaryIO) -> int:
        """Write the file, and return its bytes."""
        head, stream = self._head_bytes(), self._tensors.finish()
        body = len(head) + self._spool.tell() + len(stream)
        summed = _Summed(out)
        summed.write(frame_head(body) + head)
        self._spool.seek(0)
        shutil.copyfileobj(self._spool, summed, _PIECE)
        summed.write(stream)
        out.write(summed.crc.to_bytes(CRC_BYTES, "little"))
        return summed.size + CRC_BYTES


class _Summed:
    """A stream that also computes the CRC-32 and the number of bytes."""

    def __init__(self, out: BinaryIO) -> None:
        self._out, self.crc, self.size = out, 0, 0

    def write(self, data: bytes) -> int:
        """Write and add up."""
        self.crc = zlib.crc32(data, self.crc)
        self.size += len(data)
        return self._out.write(data)


@contextmanager
def writing(path: AnyPath, *, threads: int | None = None) -> Iterator[FileWriter]:
    """A writer of a file of weights, which is written whole or not at all when the block ends.

    Each tensor is coded so that it is read without the others. Beside the file a temporary one of about its
    size is needed until then.

    Args:
        path: The file; an existing one is replaced.
        threads: Threads that code the chunks of a tensor; None: one per processor.

    Yields:
        The writer: ``add`` takes a tensor, ``aliases`` further names, ``notes`` parent and metadata.

    Raises:
        InputError: A tensor that no file can hold, or names that are not unique.
        WriteError: The file cannot be written; an existing one is unchanged.

    Example:
        >>> import tempfile, numpy as np
        >>> from laconic.pack import read
        >>> from laconic.records import RawTensor
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with writing(f"{folder}/w.lac") as file:
        ...         size = file.add(RawTensor("w", np.ones(2, np.float32)))
        ...     read(f"{folder}/w.lac").tensors[0].values().tolist()
        [1.0, 1.0]
    """
    with scratch(path) as spool:
        writer = FileWriter(spool, threads)
        yield writer
        with replacing(path) as out:
            writer.finish(out)
