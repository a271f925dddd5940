"""A product of two factors (FORMAT.md, "Other kinds", code 2)."""

from __future__ import annotations

import math
from typing import Any

from laconic.errors import CorruptFileError
from laconic.pack.kinds import Kind, Part, Shape
from laconic.records import ProductTensor
from laconic.varint import Reader, Writer

_SUM_STEPS = 5_000  # of a column of the left factor, whatever its length
_STEPS = 8  # of a product: multiplied, written, read and added


class Product(Kind):
    """No fields; the parts are the factors."""

    code = 2
    name = "product"
    record = ProductTensor
    part_names = ("left factor", "right factor")

    def put(self, out: Writer, tensor: ProductTensor) -> None:
        """A product has no fields."""

    def get(self, source: Reader, shape: Shape) -> tuple[object, ...]:
        """A product has no fields."""
        return ()

    def parts(self, tensor: ProductTensor) -> tuple[Part, ...]:
        """The factors."""
        return tensor.left, tensor.right

    def steps(self, shape: Shape, fields: tuple[Any, ...], parts: tuple[Shape, ...]) -> int:
        """Proportional to the entries and the rank."""
        rank = parts[0][1] if len(parts[0]) == 2 else 0
        return _STEPS * math.prod(shape) * (1 + rank) + _SUM_STEPS * rank

    def build(
        self, name: str, shape: Shape, fields: tuple[Any, ...], parts: tuple[Part, ...]
    ) -> ProductTensor:
        """The tensor."""
        tensor = ProductTensor(name, *parts)
        if tensor.shape != shape:
            raise CorruptFileError(f"a product of shape {tensor.shape} claims to have shape {shape}")
        return tensor


KIND = Product()
