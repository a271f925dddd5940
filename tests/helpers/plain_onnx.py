"""A kept ONNX model restored in plain Python, written from FORMAT.md ("A kept ONNX model") alone."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator

from tests.helpers.plain_bytes import Bytes
from tests.helpers.plain_headers import Plain

ENTRIES = (4, 5, 6, 7, 9, 10, 11, 13, 14)
LETTERS = {1: "f", 10: "e", 11: "d"}


def plain_restored(tensors: list[Plain]) -> bytes:
    """The serialised ``ModelProto`` of a file's tensors."""
    (kept,) = (tensor for tensor in tensors if tensor.name == "@onnx")
    left = {tensor.name: tensor for tensor in tensors if tensor is not kept}
    model = _replaced(zlib.decompress(kept.data), 7, lambda g: _replaced(g, 5, lambda t: _filled(t, left)))
    assert not left
    return model


def _filled(data: bytes, left: dict[str, Plain]) -> bytes:
    """An initialiser, with its values where it is open and a tensor has its name."""
    name, kind, shape, is_open = "", 0, [], True
    for number, whole, content, _ in _fields(data):
        if number == 1:
            shape += [whole] if content is None else _wholes(content)
        elif number == 2:
            kind = whole
        elif number == 8 and content is not None:
            name = content.decode()
        is_open = is_open and number not in ENTRIES
    if not is_open or name not in left:
        return data
    tensor = left.pop(name)
    assert tuple(shape) == tensor.shape
    if kind == 16:
        raw = b"".join(_bfloat16(value) for value in tensor.values)
    else:
        raw = struct.pack(f"<{len(tensor.values)}{LETTERS[kind]}", *tensor.values)
    return data + _field(9, raw)


def _bfloat16(value: float) -> bytes:
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    low, upper = bits % 65536, bits // 65536
    return struct.pack("<H", upper + (low > 32768 or (low == 32768 and upper % 2 == 1)))


def _replaced(data: bytes, number: int, change: Callable[[bytes], bytes]) -> bytes:
    """A message with every field of this number changed, the rest as it is."""
    out = b""
    for found, _, content, raw in _fields(data):
        out += _field(number, change(content)) if found == number and content is not None else raw
    return out


def _fields(data: bytes) -> Iterator[tuple[int, int, bytes | None, bytes]]:
    """Number, integer, bytes and all bytes of each field of a protobuf message."""
    source = Bytes(data)
    while source.at < len(data):
        start, key = source.at, source.varint()
        whole, content = 0, None
        if key % 8 == 0:
            whole = source.varint()
        elif key % 8 == 2:
            content = source.take(source.varint())
        else:
            source.take({1: 8, 5: 4}[key % 8])
        yield key // 8, whole, content, data[start : source.at]


def _wholes(data: bytes) -> list[int]:
    source, found = Bytes(data), []
    while source.at < len(data):
        found.append(source.varint())
    return found


def _field(number: int, content: bytes) -> bytes:
    return _varint(8 * number + 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value % 128 + 128]), value // 128
    return out + bytes([value])
