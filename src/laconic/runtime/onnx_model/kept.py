"""An ONNX model whose weights a .lac file holds as tensors, and all else of it in one tensor of bytes.

FORMAT.md, "A kept ONNX model". The bytes are a ``ModelProto`` in which these weights have a name, a type and
a shape and no entries, deflated (RFC 1950).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from laconic.errors import CorruptFileError, InputError, LimitError
from laconic.pack.file.container import KEPT_ONNX as KEPT
from laconic.records import AnyArray, PackedModel, RawTensor
from laconic.records.limits import DEFAULT, Limits
from laconic.runtime.onnx_model.wire import fields
from laconic.varint import Writer

MAX_MODEL_BYTES = 2**31 - 2**20
"""Protobuf's limit of 2 GiB, minus 1 MiB."""

GRAPH, INITIALISER = 7, 5
_DIMS, _TYPE, _NAME, _RAW = 1, 2, 8, 9
_ENTRIES = (4, 5, 6, 7, 9, 10, 11, 13, 14)
"""Fields of a tensor that hold its entries, or say where they are."""

FLOATS = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
"""ONNX' numbers of the types that weights may have."""


class Head(NamedTuple):
    """An initialiser: name, ONNX' number of its type, shape, and whether it has entries."""

    name: str
    kind: int
    shape: tuple[int, ...]
    filled: bool


def head_of(data: memoryview) -> Head:
    """Name, type and shape of a ``TensorProto``."""
    name, kind, filled = "", 0, False
    shape: list[int] = []
    for field in fields(data, "a tensor"):
        if field.number == _DIMS:
            shape.extend(field.wholes)
        elif field.number == _TYPE:
            kind = field.whole
        elif field.number == _NAME:
            name = field.text
        filled = filled or field.number in _ENTRIES
    return Head(name, kind, tuple(shape), filled)


Change = Callable[[memoryview], bytes | memoryview]
"""A ``TensorProto`` to the one that takes its place."""


def with_initialisers(model: memoryview, change: Change) -> bytes:
    """A serialised ``ModelProto`` with other initialisers, everything else as it was.

    Raises ``TruncatedFileError`` and ``CorruptFileError`` for bytes that are no such message.
    """

    def graph(data: memoryview) -> bytes:
        return bytes(_replaced(data, "the graph", INITIALISER, change))

    return bytes(_replaced(model, "the model", GRAPH, graph))


def _replaced(data: memoryview, what: str, number: int, change: Change) -> bytearray:
    """A message with every field of this number changed."""
    out = Writer()
    for field in fields(data, what):
        if field.number == number:
            put(out, number, change(field.data))
        else:
            out.raw(data[field.start : field.end])
    return out.data


def put(out: Writer, number: int, data: bytes | memoryview) -> None:
    """A field of bytes."""
    out.varint(number << 3 | 2)
    out.varint(len(data))
    out.raw(data)


def without_entries(data: memoryview) -> bytes:
    """A ``TensorProto`` with a name, a type and a shape alone."""
    out = Writer()
    for field in fields(data, "a tensor"):
        if field.number not in _ENTRIES:
            out.raw(data[field.start : field.end])
    return bytes(out.data)


def with_entries(data: memoryview, raw: bytes) -> bytes:
    """A ``TensorProto`` whose entries are these bytes, little-endian."""
    out = Writer()
    out.raw(without_entries(data))
    put(out, _RAW, raw)
    return bytes(out.data)


def keep(model: bytes) -> RawTensor:
    """The tensor of bytes that a file holds for a model without its weights' entries."""
    return RawTensor(KEPT, np.frombuffer(zlib.compress(model, 9), np.uint8))


def kept_in(model: PackedModel) -> RawTensor | None:
    """The tensor of bytes, where a file has one.

    >>> kept_in(PackedModel(())) is None
    True
    """
    found = next((t for t in model.tensors if t.name == KEPT), None)
    return found if isinstance(found, RawTensor) and found.dtype == "uint8" else None


def restored(model: PackedModel, limits: Limits = DEFAULT) -> bytes:
    """The ONNX model that a file keeps, with its decoded weights, as a serialised ``ModelProto``.

    Args:
        model: A file's tensors, one of which is the kept model.
        limits: How many bytes its other parts may take.

    Raises:
        CorruptFileError: Bytes that are no such model, or weights that do not fit it.
        InputError: No model is kept, or it is longer than 2 GiB.
        LimitError: The model is longer than the limits allow.
    """
    kept = kept_in(model)
    if kept is None:
        raise InputError("this file keeps no ONNX model. Cure: laconic.pack_onnx writes one that does")
    left = {t.name: t for t in model.tensors if t.name != KEPT}

    def filled(data: memoryview) -> bytes | memoryview:
        head = head_of(data)
        if head.filled or head.name not in left:
            return data
        return with_entries(data, _bytes_of(head, left.pop(head.name).values()))

    done = with_initialisers(memoryview(_inflated(kept, limits)), filled)
    if left:
        raise CorruptFileError(f"the kept ONNX model has no place for the weights {next(iter(left))!r}")
    if len(done) > MAX_MODEL_BYTES:
        raise InputError(
            f"the ONNX model has {len(done)} bytes, and one file holds 2 GiB. Cure: unpack the weights "
            "alone: laconic.unpack_checkpoint(path, 'model.safetensors')"
        )
    return done


def _inflated(kept: RawTensor, limits: Limits) -> bytes:
    most = min(limits.allowed_memory(kept.size), MAX_MODEL_BYTES)
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(kept.array.tobytes(), most)
    except zlib.error as error:
        raise CorruptFileError(f"the kept ONNX model cannot be inflated: {error}") from error
    if stream.unconsumed_tail:
        raise LimitError(f"the kept ONNX model has more than {most} bytes")
    if not stream.eof or stream.unused_data:
        raise CorruptFileError("the kept ONNX model is not one whole stream")
    return found


def _bytes_of(head: Head, values: AnyArray) -> bytes:
    """Decoded weights in the initialiser's own type; raises ``CorruptFileError`` where they do not fit."""
    if values.shape != head.shape:
        raise CorruptFileError(
            f"weights {head.name!r} have shape {values.shape}, the kept ONNX model says {head.shape}"
        )
    kind = FLOATS.get(head.kind)
    if kind is None or values.dtype.kind != "f":
        raise CorruptFileError(f"weights {head.name!r} are of ONNX' type {head.kind}, no floating-point type")
    if kind == "bfloat16":
        return as_bfloat16(values).tobytes()
    return np.ascontiguousarray(values, np.dtype(kind).newbyteorder("<")).tobytes()


def as_bfloat16(values: AnyArray) -> AnyArray:
    """The nearest bfloat16 of finite numbers, as the upper 16 bits of a float32; ties to even.

    >>> as_bfloat16(np.float32([1.0, 1.00390625])).tolist()
    [16256, 16256]
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
