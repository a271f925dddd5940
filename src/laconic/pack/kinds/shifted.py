"""Integers that are added to those of the parent's tensor (FORMAT.md, "Other kinds", code 7)."""

from __future__ import annotations

import math
from typing import Any

from laconic.errors import InputError
from laconic.pack.kinds import Kind, Part, Shape
from laconic.pack.kinds.pieces import get_type, put_type
from laconic.pack.kinds.same import get_source, put_source
from laconic.records import IntTensor
from laconic.records.children import ShiftedTensor
from laconic.records.element_types import element_type
from laconic.varint import Reader, Writer

_STEPS = 10  # of an entry: a sum in 64 bits, and its value


class Shifted(Kind):
    """Fields: the parent's tensor, type. The only part: the differences."""

    code = 7
    name = "added to the parent"
    record = ShiftedTensor
    part_names = ("differences",)
    without_graph = True

    def put(self, out: Writer, tensor: ShiftedTensor) -> None:
        """Name and type."""
        put_source(out, tensor)
        put_type(out, element_type(tensor.type))

    def get(self, source: Reader, shape: Shape) -> tuple[object, ...]:
        """Name and type."""
        return get_source(source), get_type(source)

    def parts(self, tensor: ShiftedTensor) -> tuple[Part, ...]:
        """The differences."""
        return (tensor.part,)

    def steps(self, shape: Shape, fields: tuple[Any, ...], parts: tuple[Shape, ...]) -> int:
        """Proportional to the entries."""
        return _STEPS * math.prod(shape)

    def type_name(self, fields: tuple[Any, ...]) -> str:
        """The type in the fields."""
        name: str = fields[1].name
        return name

    def item_bytes(self, fields: tuple[Any, ...]) -> int:
        """Bytes of an element."""
        size: int = fields[1].bytes
        return size

    def build(
        self, name: str, shape: Shape, fields: tuple[Any, ...], parts: tuple[Part, ...]
    ) -> ShiftedTensor:
        """The tensor."""
        (part,) = parts
        if not isinstance(part, IntTensor):
            raise InputError("the differences from the parent are raw elements")
        return ShiftedTensor(name, shape, fields[1].name, fields[0] or name, part)


KIND = Shifted()
