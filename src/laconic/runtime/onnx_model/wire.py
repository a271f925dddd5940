"""A reader of protobuf messages: fields in order, each held against the bytes that there are.

``protos.py`` writes such messages. Source: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from laconic.errors import CorruptFileError, TruncatedFileError

_SIZES = {1: 8, 5: 4}
"""Bytes of the two kinds of fields that have a fixed length."""


class Field(NamedTuple):
    """One field: its number, an integer (varint), or bytes (all other kinds), and where it stands.

    ``start``, ``end``: of the whole field, in the message's bytes.
    """

    number: int
    value: int | memoryview
    start: int
    end: int

    @property
    def data(self) -> memoryview:
        """The bytes; raises ``CorruptFileError`` for an integer."""
        if isinstance(self.value, int):
            raise CorruptFileError(f"ONNX: field {self.number} is an integer where a message or text belongs")
        return self.value

    @property
    def whole(self) -> int:
        """The integer, negative ones too; raises ``CorruptFileError`` for bytes."""
        if not isinstance(self.value, int):
            raise CorruptFileError(f"ONNX: field {self.number} holds bytes where an integer belongs")
        return signed(self.value)

    @property
    def text(self) -> str:
        """The bytes as UTF-8; raises ``CorruptFileError`` where they are none."""
        try:
            return str(self.data, "utf-8")
        except UnicodeDecodeError as error:
            raise CorruptFileError(f"ONNX: a name is no UTF-8 ({error.reason})") from error

    @property
    def real(self) -> float:
        """A float32; raises ``CorruptFileError`` for a field of another length."""
        if len(self.data) != 4:
            raise CorruptFileError(f"ONNX: field {self.number} is no float32")
        return float(struct.unpack("<f", self.data)[0])

    @property
    def wholes(self) -> Iterator[int]:
        """The integers of a repeated field: one, or several in one block."""
        if isinstance(self.value, int):
            yield signed(self.value)
            return
        at = 0
        while at < len(self.value):
            value, at = varint(self.value, at)
            yield signed(value)


def signed(value: int) -> int:
    """A 64-bit integer of protobuf, in two's complement.

    >>> signed(2**64 - 1), signed(3)
    (-1, 3)
    """
    return value - 2**64 if value >= 2**63 else value


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """An unsigned integer and the place behind it.

    Raises ``TruncatedFileError`` where the bytes end, ``CorruptFileError`` for more than 64 bits.

    >>> varint(memoryview(b"\\xac\\x02"), 0)
    (300, 2)
    """
    value = shift = 0
    while True:
        if at >= len(data):
            raise TruncatedFileError("ONNX: the file ends within an integer. Cure: copy it anew")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise CorruptFileError("ONNX: an integer is longer than 10 bytes")
    return value % 2**64, at


def fields(data: memoryview, what: str) -> Iterator[Field]:
    """The fields of a message in order.

    Args:
        data: The message.
        what: What errors call it.

    Raises:
        TruncatedFileError: The bytes end within a field.
        CorruptFileError: A field without a number, or of a kind that ONNX does not use.

    >>> [(f.number, f.value) for f in fields(memoryview(b"\\x08\\x07"), "a model")]
    [(1, 7)]
    """
    at = 0
    while at < len(data):
        start = at
        head, at = varint(data, at)
        number, kind = head >> 3, head & 7
        if number == 0:
            raise CorruptFileError(
                f"ONNX: {what} has a field without a number. Cure: a file in ONNX's format"
            )
        if kind == 0:
            value, at = varint(data, at)
            yield Field(number, value, start, at)
            continue
        if kind == 2:
            size, at = varint(data, at)
        elif kind in _SIZES:
            size = _SIZES[kind]
        else:
            raise CorruptFileError(
                f"ONNX: {what} has a field of kind {kind}, which ONNX does not use. "
                "Cure: a file in ONNX's format"
            )
        if size > len(data) - at:
            raise TruncatedFileError(
                f"ONNX: {what} ends {size - (len(data) - at)} bytes early. Cure: copy the file anew"
            )
        at += size
        yield Field(number, data[at - size : at], start, at)
