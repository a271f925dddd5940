"""Messages between a process and the child that runs a file for it: a JSON text and arrays, no pickles."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

from laconic.errors import IsolatedError
from laconic.pack.graph.ops import DTYPES
from laconic.records import AnyArray

_LENGTH_BYTES = 8
_MOST_TEXT = 2**24
_MOST_DIMENSIONS = 32


def put(pipe: BinaryIO, said: dict[str, Any], arrays: Sequence[AnyArray] = (), data: bytes = b"") -> None:
    """Write a message: its text's length, the text, the arrays, other bytes."""
    forms = [[str(array.dtype), list(array.shape)] for array in arrays]
    text = json.dumps({**said, "arrays": forms, "data": len(data)}).encode()
    pipe.write(len(text).to_bytes(_LENGTH_BYTES, "little") + text)
    for array in arrays:
        pipe.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    pipe.write(data)
    pipe.flush()


def get(pipe: BinaryIO, most_bytes: int) -> tuple[dict[str, Any], list[AnyArray], bytes]:
    """Read a message, trusting nothing of it.

    Raises ``EOFError`` when the other side is gone, ``IsolatedError`` for what no :func:`put` writes, or for
    arrays of more than ``most_bytes``.
    """
    length = int.from_bytes(_exactly(pipe, _LENGTH_BYTES), "little")
    if length > _MOST_TEXT:
        raise IsolatedError(f"the other process sent a text of {length} bytes")
    try:
        said = json.loads(_exactly(pipe, length))
        forms = [(_dtype(kind), _shape(shape)) for kind, shape in said.pop("arrays")]
        data_bytes = _size(said.pop("data"))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise IsolatedError(f"the other process sent what is no message: {error}") from error
    total = data_bytes + sum(math.prod(shape) * dtype.itemsize for dtype, shape in forms)
    if total > most_bytes:
        raise IsolatedError(f"the other process sent {total} bytes, the limit is {most_bytes}")
    arrays = []
    for dtype, shape in forms:
        raw = _exactly(pipe, math.prod(shape) * dtype.itemsize)
        arrays.append(np.frombuffer(bytearray(raw), dtype).reshape(shape))
    return said, arrays, _exactly(pipe, data_bytes)


def _exactly(pipe: BinaryIO, count: int) -> bytes:
    found = pipe.read(count)
    if len(found) < count:
        raise EOFError
    return found


def _dtype(name: object) -> np.dtype[Any]:
    if name not in DTYPES:
        raise ValueError(f"type {name!r}")
    return np.dtype(str(name))


def _size(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**62:
        raise ValueError(f"size {value!r}")
    return value


def _shape(sizes: object) -> tuple[int, ...]:
    if not isinstance(sizes, list) or len(sizes) > _MOST_DIMENSIONS:
        raise ValueError(f"shape {sizes!r}")
    return tuple(_size(size) for size in sizes)
