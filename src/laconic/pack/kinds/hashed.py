"""Hashed weights: a seed, and buckets (FORMAT.md, "Other kinds", code 0)."""

from __future__ import annotations

import math
from typing import Any

from laconic.pack.kinds import Kind, Part, Shape
from laconic.records import HashedTensor
from laconic.varint import Reader, Writer

_STEPS = 60  # of an entry: two multiplications of 64 bits, and a random memory access


class Hashed(Kind):
    """Fields: the seed (eight bytes). The only part: the buckets."""

    code = 0
    name = "hashed"
    record = HashedTensor
    part_names = ("buckets",)

    def put(self, out: Writer, tensor: HashedTensor) -> None:
        """The seed."""
        out.raw(tensor.seed.to_bytes(8, "little"))

    def get(self, source: Reader, shape: Shape) -> tuple[object, ...]:
        """The seed."""
        return (int.from_bytes(source.raw(8), "little"),)

    def parts(self, tensor: HashedTensor) -> tuple[Part, ...]:
        """The buckets."""
        return (tensor.buckets,)

    def steps(self, shape: Shape, fields: tuple[Any, ...], parts: tuple[Shape, ...]) -> int:
        """Proportional to the entries."""
        return _STEPS * math.prod(shape)

    def build(
        self, name: str, shape: Shape, fields: tuple[Any, ...], parts: tuple[Part, ...]
    ) -> HashedTensor:
        """The tensor."""
        return HashedTensor(name, shape, fields[0], parts[0])


KIND = Hashed()
