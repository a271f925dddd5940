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
    body = Writer()
    for node in graph.nodes:
        _part(body, 1, _node(node))
    _text(body, 2, "laconic")
    for name, array in graph.initialisers.items():
        _part(body, 5, _tensor(name, array, inline or array.nbytes < BESIDE_BYTES))
    for field, values in ((11, graph.inputs), (12, graph.outputs)):
        for value in values:
            _part(body, field, _value(value))
    out = Writer()
    _number(out, 1, IR_VERSION)
    _text(out, 2, "laconic")
    _part(out, 7, body)
    imports = {"": OPSET, **{node.domain: 1 for node in graph.nodes if node.domain}}
    for domain, version in imports.items():
        operators = Writer()
        _text(operators, 1, domain)
        _number(operators, 2, version)
        _part(out, 8, operators)
    return bytes(out.data)


def _number(out: Writer, field: int, value: int) -> None:
    """An int64, negative ones in two's complement."""
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{value} does not fit 64 bits")
    out.varint(field << 3)
    out.varint(value % 2**64)


def _part(out: Writer, field: int, message: Writer) -> None:
    out.varint(field << 3 | 2)
    out.varint(len(message.data))
    out.data += message.data


def _text(out: Writer, field: int, text: str) -> None:
    out.varint(field << 3 | 2)
    out.block(text.encode())


def _node(node: OnnxNode) -> Writer:
    out = Writer()
    try:
        for field, names in ((1, node.inputs), (2, node.outputs)):
            for name in names:
                _text(out, field, name)
        _text(out, 4, node.kind)
        for name, attr in node.attrs.items():
            _part(out, 5, _attribute(name, attr))
        if node.domain:
            _text(out, 7, node.domain)
    except (ValueError, TypeError, OverflowError) as error:  # a missing or too large integer
        raise CorruptFileError(f"a node of kind {node.kind} cannot be built: {error}") from error
    return out


def _attribute(name: str, value: OnnxAttr) -> Writer:
    """A number, a text, or a list of either; its kind is field 20."""
    out = Writer()
    _text(out, 1, name)
    if isinstance(value, str):
        kind = 3
        _text(out, 4, value)
    elif isinstance(value, float):
        kind = 1
        out.varint(2 << 3 | 5)
        out.raw(struct.pack("<f", value))
    elif not isinstance(value, Sequence):
        kind = 2
        _number(out, 3, operator.index(value))
    elif not value:
        raise ValueError(f"attribute {name} is an empty list")
    else:
        kind = 8 if isinstance(value[0], str) else 7
        for item in value:
            _text(out, 9, item) if isinstance(item, str) else _number(out, 8, operator.index(item))
    _number(out, 20, kind)
    return out


def _tensor(name: str, array: AnyArray, inline: bool) -> Writer:
    """The entries in little-endian order, or the note that the runtime gets their memory."""
    if str(array.dtype) not in ONNX_TYPES:
        raise CorruptFileError(f"tensor {name!r} has type {array.dtype}, which the graph cannot use")
    out = Writer()
    for size in array.shape:
        _number(out, 1, size)
    _number(out, 2, ONNX_TYPES[str(array.dtype)])
    _text(out, 8, name)
    if inline:
        ordered = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        out.varint(9 << 3 | 2)
        out.varint(array.nbytes)
        out.data += ordered.tobytes()
    else:
        place = Writer()
        _text(place, 1, "location")
        _text(place, 2, "memory")
        _part(out, 13, place)
        _number(out, 14, 1)
    return out


def _value(value: OnnxValue) -> Writer:
    out = Writer()
    _text(out, 1, value.name)
    if value.dtype is None:
        return out
    tensor = Writer()
    _number(tensor, 1, ONNX_TYPES[value.dtype])
    if value.shape is not None:
        shape = Writer()
        for size in value.shape:
            axis = Writer()
            if isinstance(size, str):
                _text(axis, 2, size)
            elif size is not None:
                _number(axis, 1, size)
            _part(shape, 1, axis)
        _part(tensor, 2, shape)
    kind = Writer()
    _part(kind, 1, tensor)
    _part(out, 2, kind)
    return out
