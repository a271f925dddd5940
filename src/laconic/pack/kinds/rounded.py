"""Values of a part, rounded to a floating type (FORMAT.md, "Other kinds", code 5)."""

from __future__ import annotations

import math
from typing import Any

from laconic.errors import CorruptFileError
from laconic.pack.kinds import Kind, Part, Shape
from laconic.pack.kinds.pieces import get_type, put_type
from laconic.records.element_types import element_type
from laconic.records.typed import ROUNDED_TYPES, RoundedTensor
from laconic.varint import Reader, Writer

_STEPS = 10  # of an entry: its value is computed and rounded


class Rounded(Kind):
    """Field: the type. The only part: what is rounded."""

    code = 5
    name = "rounded"
    record = RoundedTensor
    part_names = ("values",)
    without_graph = True

    def put(self, out: Writer, tensor: RoundedTensor) -> None:
        """The type."""
        put_type(out, element_type(tensor.type))

    def get(self, source: Reader, shape: Shape) -> tuple[object, ...]:
        """The type."""
        kind = get_type(source)
        if kind.name not in ROUNDED_TYPES:
            raise CorruptFileError(f"values are said to be rounded to {kind.name}")
        return (kind,)

    def parts(self, tensor: RoundedTensor) -> tuple[Part, ...]:
        """What is rounded."""
        return (tensor.part,)

    def steps(self, shape: Shape, fields: tuple[Any, ...], parts: tuple[Shape, ...]) -> int:
        """Proportional to the entries."""
        return _STEPS * math.prod(shape)

    def type_name(self, fields: tuple[Any, ...]) -> str:
        """The type in the fields."""
        name: str = fields[0].name
        return name

    def item_bytes(self, fields: tuple[Any, ...]) -> int:
        """Bytes of an element."""
        size: int = fields[0].bytes
        return size

    def build(
        self, name: str, shape: Shape, fields: tuple[Any, ...], parts: tuple[Part, ...]
    ) -> RoundedTensor:
        """The tensor."""
        tensor = RoundedTensor(name, parts[0], fields[0].name)
        if tensor.shape != shape:
            raise CorruptFileError(f"a part of shape {tensor.shape} is rounded to shape {shape}")
        return tensor


KIND = Rounded()
