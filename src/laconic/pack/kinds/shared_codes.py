"""One random code for the weights of many tensors (FORMAT.md, "Other kinds", code 10)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from laconic.errors import CorruptFileError, InputError, uncured
from laconic.pack.kinds import Kind, Part, Shape
from laconic.records.base import IntArray
from laconic.records.shared_codes import MAX_BITS, MAX_VALUES, SharedCode, SharedCodeTensor
from laconic.varint import Reader, Writer, get_float, put_float

_STEPS = 80  # of an entry: two multiplications of 64 bits and two look-ups
_WEIGHT_STEPS = 300  # of a weight of the code: a word of its order, sorted, and a place of a candidate
_WEIGHT_BYTES = 48  # of a weight of the code while it is decoded
_KEPT_BYTES = 4  # of a weight of the code once it is decoded
_INDEX_STEPS = 200
_INDEX_BYTES = 4
_PIECE = 1 << 12  # indices that are unpacked at a time


class SharedCodes(Kind):
    """Fields: size, seed, blocks, bits, indices (a size of 0 alone: the code of the tensor of this kind
    before), places passed over, buckets, scale. No parts.
    """

    code = 10
    name = "shared random codes"
    record = SharedCodeTensor
    part_names = ()

    def __init__(self) -> None:
        self._last: SharedCode | None = None
        self._next = 0

    def for_file(self) -> SharedCodes:
        """One that remembers the file's last code, and where its last tensor ended."""
        return SharedCodes()

    def put(self, out: Writer, tensor: SharedCodeTensor) -> None:
        """The code, unless it is the last one; where the tensor's weights are in it; the scale."""
        code = tensor.code
        if self._last is not None and _same(code, self._last):
            out.varint(0)
        else:
            for number in (code.size, code.seed, len(code.indices), code.bits):
                out.varint(number)
            out.raw(packed_indices(code.indices, code.bits))
            self._last, self._next = code, 0
        out.varint((tensor.first - self._next) % code.size)
        out.varint(tensor.buckets)
        put_float(out, tensor.scale, True)
        self._next = (tensor.first + tensor.count) % code.size

    def get(self, source: Reader, shape: Shape) -> tuple[object, ...]:
        """Code, first weight, buckets, scale, and whether the code stands here."""
        size = source.varint()
        if size:
            self._last, self._next = _get_code(source, size), 0
        code = self._last
        if code is None:
            raise CorruptFileError("a tensor refers to the random code before it, and there is none")
        passed, buckets = source.varint(), source.varint()
        if passed >= code.size:
            raise CorruptFileError(f"a tensor passes over {passed} of {code.size} weights of a random code")
        scale, first = get_float(source, True, "a scale"), (self._next + passed) % code.size
        self._next = (first + (buckets or math.prod(shape))) % code.size
        return code, first, buckets, scale, size > 0

    def parts(self, tensor: SharedCodeTensor) -> tuple[Part, ...]:
        """None."""
        return ()

    def steps(self, shape: Shape, fields: tuple[Any, ...], parts: tuple[Shape, ...]) -> int:
        """Proportional to the entries; where the code stands, to its weights and indices."""
        code, *_, here = fields
        whole = _WEIGHT_STEPS * code.size + _INDEX_STEPS * len(code.indices) if here else 0
        return _STEPS * math.prod(shape) + whole

    def alone(self, fields: tuple[Any, ...]) -> tuple[Any, ...]:
        """As if the code stood here: one tensor's values take all of it."""
        return (*fields[:-1], True)

    def extra_bytes(self, fields: tuple[Any, ...]) -> int:
        """Memory of the decoded code, where it stands."""
        code, *_, here = fields
        return _WEIGHT_BYTES * code.size + _INDEX_BYTES * len(code.indices) if here else 0

    def kept_bytes(self, fields: tuple[Any, ...]) -> int:
        """The code's weights and indices, where it stands: every tensor of the file may refer to it."""
        code, *_, here = fields
        return _KEPT_BYTES * code.size + _INDEX_BYTES * len(code.indices) if here else 0

    def told(self, fields: tuple[Any, ...]) -> str:
        """With the bits of an index."""
        return f"random code of {fields[0].bits} bits a block"

    def coded_bytes(self, fields: tuple[Any, ...]) -> int:
        """Bytes of the indices, where they stand."""
        code, *_, here = fields
        return code.index_bytes if here else 0

    def build(
        self, name: str, shape: Shape, fields: tuple[Any, ...], parts: tuple[Part, ...]
    ) -> SharedCodeTensor:
        """The tensor."""
        code, first, buckets, scale, _ = fields
        return SharedCodeTensor(name, shape, code, first, buckets, scale)


def _same(one: SharedCode, other: SharedCode) -> bool:
    """Whether two codes are one; tensors that were copied one by one have copies of it."""
    fields = (one.seed, one.size, one.bits) == (other.seed, other.size, other.bits)
    return one is other or (fields and np.array_equal(one.indices, other.indices))


def packed_indices(indices: IntArray, bits: int) -> bytes:
    """Indices of so many bits side by side, the highest bit first; the last byte is filled up with zeros.

    >>> packed_indices(np.array([1, 5], np.int32), 3).hex()
    '34'
    """
    shifts = np.arange(bits - 1, -1, -1)
    return np.packbits(((indices[:, None] >> shifts) & 1).astype(np.uint8).reshape(-1)).tobytes()


def _get_code(source: Reader, size: int) -> SharedCode:
    seed, blocks, bits = source.varint(), source.varint(), source.varint()
    if size > MAX_VALUES or not 1 <= blocks <= size or not 1 <= bits <= MAX_BITS:
        raise CorruptFileError(f"a random code has {size} weights in {blocks} blocks of {bits} bits")
    data = np.frombuffer(source.raw(-(-blocks * bits // 8)), np.uint8)
    if blocks * bits % 8 and data[-1] & ((1 << -(blocks * bits) % 8) - 1):
        raise CorruptFileError("the bits after the last index of a random code are not zero")
    indices = np.empty(blocks, np.int32)
    weights = 1 << np.arange(bits - 1, -1, -1, dtype=np.int64)
    for first in range(0, blocks, _PIECE):  # eight indices begin with a byte
        own = indices[first : first + _PIECE]
        flags = np.unpackbits(data[first * bits // 8 :][: -(-len(own) * bits // 8)])
        own[:] = flags[: len(own) * bits].reshape(-1, bits) @ weights
    try:
        return SharedCode(seed, size, bits, indices)
    except InputError as error:
        raise CorruptFileError(uncured(error)) from error


KIND = SharedCodes()
