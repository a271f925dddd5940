"""Bytes of numbers, split into planes that are coded one by one (FORMAT.md, "Byte planes").

A plane holds one byte of each number. Of floating numbers the sign is moved behind the mantissa, so that the
first plane is the exponent, which takes few bits; mantissas are mostly noise and stay raw.
"""

from __future__ import annotations

import math
import zlib

import numpy as np

from laconic.errors import ChecksumError, CorruptFileError
from laconic.pack.codecs.compiled import coder, extension
from laconic.pack.codecs.order0 import quantised
from laconic.pack.codecs.symbols import Counts, StreamReader, StreamWriter
from laconic.records.element_types import ByteArray
from laconic.varint import Reader, Writer

RAW, CONSTANT, STATIC = range(3)
_MOST_COUNTS = 1 << 17
_GAIN = 0.995
"""A plane is coded if that takes less than this share of its bytes: decoding takes longer than copying."""
_SAMPLE = 1 << 15
_BIAS = 255 / (2 * math.log(2))  # bits that the entropy of n bytes is too small by, times n (Miller 1955)
_NOISE = 8 * 0.9985
_CRC_BYTES = 4


def encode_planes(data: ByteArray, word: int, rotated: bool) -> bytes:
    """The planes of numbers, most significant first, and the CRC-32 of ``data``.

    Args:
        data: Little-endian numbers of ``word`` bytes, uint8.
        word: Bytes of a number: 1, 2, 4 or 8.
        rotated: Whether the top bit is moved behind the others.
    """
    out = Writer()
    rows = _turned(data, word, 1 if rotated else 0).reshape(-1, word)
    for place in range(word - 1, -1, -1):
        _put_plane(out, np.ascontiguousarray(rows[:, place]))
    out.raw(zlib.crc32(data.data).to_bytes(_CRC_BYTES, "little"))
    return bytes(out.data)


def decode_planes(source: Reader, out: ByteArray, word: int, rotated: bool) -> None:
    """The inverse of :func:`encode_planes`, into ``out``.

    Raises ``CorruptFileError`` for a wrong mode or table, ``ChecksumError`` for bytes that are damaged.
    """
    rows = np.empty((out.size // word, word), np.uint8)
    for place in range(word - 1, -1, -1):
        _get_plane(source, rows[:, place])
    out[:] = _turned(rows.reshape(-1), word, 8 * word - 1 if rotated else 0)
    stored = int.from_bytes(source.raw(_CRC_BYTES), "little")
    if source.left:
        raise CorruptFileError(f"{source.left} bytes follow the planes")
    if stored != zlib.crc32(out.data):
        raise ChecksumError("the elements do not match their checksum: they are damaged")


def _turned(data: ByteArray, word: int, by: int) -> ByteArray:
    """Each number rotated to the left by so many bits."""
    if by == 0:
        return data
    bits = data.view(f"<u{word}")
    return ((bits << by) | (bits >> (8 * word - by))).view(np.uint8)


def _put_plane(out: Writer, plane: ByteArray) -> None:
    if plane.size > 4 * _SAMPLE and _is_noise(plane[:: plane.size // _SAMPLE]):
        out.byte(RAW)
        out.raw(plane.data)
        return
    seen = np.bincount(plane, minlength=256)
    used = np.flatnonzero(seen)
    if len(used) == 1:
        out.raw(bytes([CONSTANT, int(used[0])]))
        return
    coded = _coded(plane, seen, int(used[0]), int(used[-1])) if _pays(seen) else None
    if coded is None or len(coded) > _GAIN * plane.size:
        out.byte(RAW)
        out.raw(plane.data)
    else:
        out.byte(STATIC)
        out.raw(coded)


def _is_noise(sample: ByteArray) -> bool:
    """Whether some bytes of a plane show that no table pays, so that not all need be counted."""
    shares = np.bincount(sample) / sample.size
    entropy = -float(shares[shares > 0] @ np.log2(shares[shares > 0]))
    return entropy + _BIAS / sample.size > _NOISE


def _pays(seen: Counts) -> bool:
    """Whether the entropy leaves room for a table."""
    total = int(seen.sum())
    each = seen[seen > 0].astype(np.float64)
    bits = total * math.log2(total) - float(each @ np.log2(each))
    return bits / 8 < _GAIN * total


def _coded(plane: ByteArray, seen: Counts, lowest: int, highest: int) -> bytes:
    """Table, length and stream of a plane."""
    counts = quantised(seen[lowest : highest + 1])
    stream = StreamWriter(coder())
    symbols = np.subtract(plane, np.uint8(lowest), dtype=np.uint8).astype(np.int32)
    stream.draws(np.array(counts, np.int64), symbols.size, symbols)
    out = Writer()
    out.byte(lowest)
    out.byte(highest - lowest)
    for count in counts:
        out.varint(count)
    out.block(stream.finish(0))
    return bytes(out.data)


def _get_plane(source: Reader, out: ByteArray) -> None:
    mode = source.byte()
    if mode == RAW:
        out[:] = np.frombuffer(source.view(out.size), np.uint8)
    elif mode == CONSTANT:
        out[:] = source.byte()
    elif mode == STATIC:
        _read_coded(source, out)
    else:
        raise CorruptFileError(f"no plane has mode {mode}")


def _read_coded(source: Reader, out: ByteArray) -> None:
    lowest, classes = source.byte(), source.byte() + 1
    counts = [source.varint() for _ in range(classes)]
    if classes < 2 or lowest + classes > 256:
        raise CorruptFileError(f"a plane has {classes} values from {lowest}")
    if not (counts[0] and counts[-1] and sum(counts) <= _MOST_COUNTS):
        raise CorruptFileError(f"a plane's counts add up to {sum(counts)}, or start or end with 0")
    data = source.view(source.count("bytes of a plane"))
    stream = StreamReader(bytes(data), extension(), coder())
    symbols = stream.draws(np.array(counts, np.int64), out.size, None)
    stream.finish(0)
    np.add(symbols, lowest, out=out, casting="unsafe")
