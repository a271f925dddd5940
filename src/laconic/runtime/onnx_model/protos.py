"""An ONNX graph as plain records, and as the bytes of a ``ModelProto``, which any runtime reads.

The bytes are written here and not by the package ``onnx``, whose import takes longer than loading a small
network. The encoding is protobuf's (https://protobuf.dev/programming-guides/encoding/), the fields' numbers
are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from laconic.errors import CorruptFileError
from laconic.records import AnyArray, Record, record
from laconic.varint import Writer

OPSET, IR_VERSION = 20, 9

ONNX_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9, "float16": 10}
"""ONNX' numbers of the types that a graph may hold."""

BESIDE_BYTES = 4096
"""Tensors of this size or more are passed to the runtime as memory, not copied into the model."""

MICROSOFT = "com.microsoft"
"""ONNX Runtime's own operators."""

OWN = "laconic"
"""The domain of nodes that engines replace before a runtime gets the graph (``onnx_model/plan.py``)."""


class Float32(NamedTuple):
    """A field of four bytes."""

    data: bytes


Message = Sequence[tuple[int, "int | bytes | Float32 | Message"]]
"""A message of protobuf: the number and the value of each field, a text as UTF-8."""

OnnxAttr = int | float | str | Sequence[int] | Sequence[str]


class OnnxNode(NamedTuple):
    """One ONNX node: operator type, input and output names, attributes, the operator's domain."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, OnnxAttr]
    domain: str = ""


@record
class OnnxValue(Record):
    """An input or output: its name, NumPy type and shape, where they are known.

    A size is a number, the name of a free one, or None for one that is known only at a call.
    """

    name: str
    dtype: str | None = None
    shape: tuple[int | str | None, ...] | None = None


@record
class OnnxGraph(Record):
    """Nodes in execution order, and the constants that they read, by name."""

    nodes: Sequence[OnnxNode]
    inputs: tuple[OnnxValue, ...]
    outputs: tuple[OnnxValue, ...]
    initialisers: Mapping[str, AnyArray]


def model_bytes(graph: OnnxGraph, inline: bool = False) -> bytes:
    """A graph as a serialised ``ModelProto``.

    With ``inline`` it holds all initialisers. Else those of ``BESIDE_BYTES`` or more are
    only named, and the session gets their memory.

    Raises ``CorruptFileError`` naming the tensor whose type, or the node whose attribute, ONNX cannot hold.

    >>> relu = OnnxNode("Relu", ("x",), ("y",), {})
    >>> model_bytes(OnnxGraph([relu], (OnnxValue("x", "float32", (None,)),), (OnnxValue("y"),), {}))[:4].hex()
    '08091207'
    """
    body: Message = [
        *((1, _node(node)) for node in graph.nodes),
        (2, b"laconic"),
        *(
            (5, _tensor(name, array, inline or array.nbytes < BESIDE_BYTES))
            for name, array in graph.initialisers.items()
        ),
        *((11, _value(value)) for value in graph.inputs),
        *((12, _value(value)) for value in graph.outputs),
    ]
    versions = {"": OPSET, **{node.domain: 1 for node in graph.nodes if node.domain}}
    imports = [_operators(domain, version) for domain, version in versions.items()]
    return bytes(_encoded([(1, IR_VERSION), (2, b"laconic"), (7, body), *((8, part) for part in imports)]))


def _operators(domain: str, version: int) -> Message:
    return [(1, domain.encode()), (2, version)]


def _node(node: OnnxNode) -> Message:
    try:
        return [
            *[(1, name.encode()) for name in node.inputs],
            *[(2, name.encode()) for name in node.outputs],
            (4, node.kind.encode()),
            *[(5, _attribute(name, attr)) for name, attr in node.attrs.items()],
            *([(7, node.domain.encode())] if node.domain else []),
        ]
    except (ValueError, TypeError, OverflowError) as error:  # a missing or too large integer
        raise CorruptFileError(f"a node of kind {node.kind} cannot be built: {error}") from error


def _attribute(name: str, value: OnnxAttr) -> Message:
    """A number, a text, or a list of either; its kind is field 20."""
    if isinstance(value, str):
        return [(1, name.encode()), (4, value.encode()), (20, 3)]
    if isinstance(value, float):
        return [(1, name.encode()), (2, Float32(struct.pack("<f", value))), (20, 1)]
    if not isinstance(value, Sequence):
        return [(1, name.encode()), (3, _int64(value)), (20, 2)]
    if not value:
        raise ValueError(f"attribute {name} is an empty list")
    items: Message = [(9, v.encode()) if isinstance(v, str) else (8, _int64(v)) for v in value]
    return [(1, name.encode()), *items, (20, 8 if isinstance(value[0], str) else 7)]


def _int64(value: int) -> int:
    """A whole number that fits 64 bits."""
    whole = operator.index(value)
    if not -(2**63) <= whole < 2**63:
        raise ValueError(f"{value} does not fit 64 bits")
    return whole


def _tensor(name: str, array: AnyArray, inline: bool) -> Message:
    """The entries in little-endian order, or the note that the runtime gets their memory."""
    kind = ONNX_TYPES.get(str(array.dtype))
    if kind is None:
        raise CorruptFileError(f"tensor {name!r} has type {array.dtype}, which the graph cannot use")
    head: Message = [*[(1, size) for size in array.shape], (2, kind), (8, name.encode())]
    if inline:
        return [*head, (9, np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())]
    return [*head, (13, [(1, b"location"), (2, b"memory")]), (14, 1)]


def _value(value: OnnxValue) -> Message:
    if value.dtype is None:
        return [(1, value.name.encode())]
    tensor: Message = [(1, ONNX_TYPES[value.dtype])]
    if value.shape is not None:
        tensor = [*tensor, (2, [(1, _axis(size)) for size in value.shape])]
    return [(1, value.name.encode()), (2, [(1, tensor)])]


def _axis(size: int | str | None) -> Message:
    """A size, the name of a free one, or nothing."""
    if size is None:
        return []
    return [(2, size.encode())] if isinstance(size, str) else [(1, size)]


def _encoded(message: Message) -> bytearray:
    """The bytes of a message; a negative number is in two's complement."""
    out = Writer()
    for number, value in message:
        if isinstance(value, int):
            out.varint(number << 3)
            out.varint(value % 2**64)
        elif isinstance(value, Float32):
            out.varint(number << 3 | 5)
            out.raw(value.data)
        else:
            part = value if isinstance(value, bytes) else _encoded(value)
            out.varint(number << 3 | 2)
            out.block(part)
    return out.data
