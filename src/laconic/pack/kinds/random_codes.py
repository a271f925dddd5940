"""Random codes: a seed, indices of samples, scales (FORMAT.md, "Other kinds", code 1)."""

from __future__ import annotations

import math
from typing import Any

from laconic.errors import CorruptFileError, InputError
from laconic.pack.kinds import Kind, Part, Shape
from laconic.records import IntTensor, RandomCodeTensor
from laconic.varint import Reader, Writer, get_float, put_float

_STEPS = 80  # of an entry: two multiplications of 64 bits, a division, and a look-up
_BLOCK_STEPS = 100


class RandomCodes(Kind):
    """Fields: seed (eight bytes), block, number of scales (varints), scales. The only part: the indices."""

    code = 1
    name = "random codes"
    record = RandomCodeTensor
    part_names = ("indices",)

    def put(self, out: Writer, tensor: RandomCodeTensor) -> None:
        """Seed, block, scales."""
        out.raw(tensor.seed.to_bytes(8, "little"))
        out.varint(tensor.block)
        out.varint(len(tensor.scales))
        for scale in tensor.scales:
            put_float(out, scale, False)

    def get(self, source: Reader, shape: Shape) -> tuple[object, ...]:
        """Seed, block, scales."""
        seed, block = int.from_bytes(source.raw(8), "little"), source.varint()
        scales = tuple(get_float(source, False, "a scale") for _ in range(source.count("scales")))
        if block < 1:
            raise CorruptFileError("a block of random codes has no entries")
        return seed, block, scales

    def parts(self, tensor: RandomCodeTensor) -> tuple[Part, ...]:
        """The indices."""
        return (tensor.indices,)

    def steps(self, shape: Shape, fields: tuple[Any, ...], parts: tuple[Shape, ...]) -> int:
        """Proportional to the entries and blocks."""
        return _STEPS * math.prod(shape) + _BLOCK_STEPS * math.prod(parts[0])

    def build(
        self, name: str, shape: Shape, fields: tuple[Any, ...], parts: tuple[Part, ...]
    ) -> RandomCodeTensor:
        """The tensor."""
        (indices,) = parts
        if not isinstance(indices, IntTensor):
            raise InputError(f"tensor {name!r}: the indices of its random codes are raw elements")
        return RandomCodeTensor(name, shape, fields[0], fields[1], indices, fields[2])


KIND = RandomCodes()
