"""Writer and reader of fields: base-128 integers, blocks of bytes, and bounds checks on every read."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence

from laconic.errors import CorruptFileError, InputError, TruncatedFileError


def zigzag(value: int) -> int:
    """Signed to unsigned, small magnitudes first: 0, -1, 1, -2 -> 0, 1, 2, 3."""
    return value << 1 if value >= 0 else (-value << 1) - 1


def unzigzag(code: int) -> int:
    """The inverse of :func:`zigzag`."""
    return code >> 1 if code % 2 == 0 else -((code + 1) >> 1)


Field = int | bytes
"""An unsigned integer, written as a varint, or bytes as they are."""


class Writer:
    """Appends fields to a byte string.

    >>> out = Writer(); out.varint(300); out.signed(-2); out.data.hex()
    'ac0203'
    """

    def __init__(self) -> None:
        self.data = bytearray()

    def byte(self, value: int) -> None:
        """One unsigned byte."""
        self.data.append(value)

    def varint(self, value: int) -> None:
        """Unsigned, seven bits per byte, low bits first; the top bit is set on all bytes but the last."""
        if not 0 <= value < 2**64:
            raise InputError(f"{value} does not fit a 64-bit field of the file. Cure: 0 to 2^64 - 1")
        while value >= 0x80:
            self.data.append(value & 0x7F | 0x80)
            value >>= 7
        self.data.append(value)

    def signed(self, value: int) -> None:
        """A zigzag varint."""
        self.varint(zigzag(value))

    def fields(self, fields: Iterable[Field]) -> None:
        """Each field in turn."""
        for field in fields:
            if isinstance(field, int):
                self.varint(field)
            else:
                self.data += field

    def raw(self, data: bytes | memoryview) -> None:
        """Bytes as they are; the reader must know their number."""
        self.data += data

    def block(self, data: bytes | bytearray) -> None:
        """A length, then the bytes."""
        self.varint(len(data))
        self.data += data


class Reader:
    """A cursor over bytes; every method raises ``TruncatedFileError`` instead of reading past the end."""

    def __init__(self, data: bytes | memoryview, section: str) -> None:
        self._data = memoryview(data)
        self._section = section
        self.at = 0

    @property
    def left(self) -> int:
        """Bytes not yet read."""
        return len(self._data) - self.at

    def raw(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        if count > self.left:
            raise TruncatedFileError(f"{self._section} ends {count - self.left} bytes early")
        self.at += count
        return bytes(self._data[self.at - count : self.at])

    def view(self, count: int) -> memoryview:
        """The next ``count`` bytes as a view, not copied."""
        if count > self.left:
            raise TruncatedFileError(f"{self._section} ends {count - self.left} bytes early")
        self.at += count
        return self._data[self.at - count : self.at]

    def views(self, lengths: Sequence[int]) -> list[memoryview]:
        """Consecutive chunks of these lengths as views; the error names the first one that is not there."""
        found = []
        for number, length in enumerate(lengths):
            if length > self.left:
                raise TruncatedFileError(
                    f"chunk {number} of {len(lengths)} is missing: it has {length} bytes, "
                    f"{self._section} ends after {self.left}"
                )
            found.append(self.view(length))
        return found

    def byte(self) -> int:
        """One unsigned byte."""
        value = self.peek()
        self.at += 1
        return value

    def peek(self) -> int:
        """The next byte, without advancing."""
        if self.at >= len(self._data):
            raise TruncatedFileError(f"{self._section} ends 1 bytes early")
        return self._data[self.at]

    def varint(self) -> int:
        """An unsigned integer; forms longer than needed are refused, so each value has one encoding."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 63:
                raise CorruptFileError(f"{self._section}: an integer is longer than 10 bytes")
        if value >= 2**64 or (shift and byte == 0):
            raise CorruptFileError(f"{self._section}: an integer is not in its shortest form")
        return value

    def signed(self) -> int:
        """A zigzag varint."""
        return unzigzag(self.varint())

    def count(self, what: str) -> int:
        """A number of things that take at least one byte each of what is left."""
        value = self.varint()
        if value > self.left:
            raise TruncatedFileError(f"{self._section} claims {value} {what} in {self.left} bytes")
        return value

    def block(self, what: str) -> bytes:
        """A length, then that many bytes."""
        return self.raw(self.count(what))


def float32_bytes(value: float) -> bytes:
    """Four bytes, little-endian; ``value`` is a float32 already (records check it)."""
    return struct.pack("<f", value)


def fits_bfloat16(value: float) -> bool:
    """True when the low 16 bits of the float32 are zero."""
    return float32_bytes(value)[:2] == b"\0\0"


def put_float(out: Writer, value: float, short: bool) -> None:
    """A float32, or its upper two bytes (bfloat16) when ``short``."""
    out.raw(float32_bytes(value)[2 if short else 0 :])


def get_float(source: Reader, short: bool, what: str = "a grid value") -> float:
    """The inverse of :func:`put_float`; refuses NaN and infinities, naming ``what``."""
    raw = b"\0\0" + source.raw(2) if short else source.raw(4)
    value: float = struct.unpack("<f", raw)[0]
    if not math.isfinite(value):
        raise CorruptFileError(f"{what} is {value}")
    return value
