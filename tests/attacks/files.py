"""Helpers to build attacks: files with valid checksums, from graphs that no writer produces."""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Callable, Sequence
from types import ModuleType

import numpy as np
import numpy.typing as npt

from laconic.pack import MAGIC, encode
from laconic.records import (
    ActivationRange,
    Graph,
    IntTensor,
    Node,
    PackedModel,
    RawTensor,
    Tensor,
    UniformGrid,
    ValueSpec,
)
from laconic.varint import Writer

Shape = tuple[int | None, ...]


def constant(name: str, *shape: int) -> IntTensor:
    """A tensor of zeros: a few bytes in the file, whatever its shape."""
    return IntTensor(name, np.zeros(shape, np.int32), UniformGrid(1.0))


def raw(name: str, values: npt.ArrayLike, dtype: str = "float32") -> RawTensor:
    """A tensor that is stored as it is."""
    return RawTensor(name, np.asarray(values, dtype))


def file_of(
    inputs: Sequence[Shape],
    nodes: Sequence[Node],
    tensors: Sequence[Tensor] = (),
    *,
    outputs: Sequence[int] = (),
    ranges: Sequence[int] = (),
    dtype: str = "float32",
) -> bytes:
    """A file with this graph; its last value is the output. ``ranges``: values that have an int8 range."""
    last = len(inputs) + sum(node.n_outputs for node in nodes) - 1
    specs = tuple(ValueSpec(dtype, shape) for shape in inputs)
    entries = tuple(ActivationRange(value, 1.0, 0) for value in ranges)
    graph = Graph(specs, tuple(nodes), tuple(outputs) or (last,), entries)
    return encode(PackedModel(tuple(tensors), graph))


def varint(value: int) -> bytes:
    """An integer as the format writes it."""
    out = Writer()
    out.varint(value)
    return bytes(out.data)


def with_graph(graph: bytes, tensors: bytes = b"\0\0", stream: bytes = b"\0\0\0\x80") -> bytes:
    """A hand-made file: a graph section, the fields after it (no tensor, no alias), and a stream."""
    body = varint(len(graph)) + graph + tensors + stream
    data = MAGIC + b"\1" + varint(len(body) + 4) + body
    return data + zlib.crc32(data).to_bytes(4, "little")


def attacks(module: ModuleType) -> dict[str, Callable[[], bytes]]:
    """The attacks of a module: its public functions that return bytes, by name."""
    found = inspect.getmembers(module, inspect.isfunction)
    return {
        name: function
        for name, function in found
        if function.__module__ == module.__name__ and not name.startswith("_")
    }
