"""Elements of any type, bit for bit (FORMAT.md, "Other kinds", code 4)."""

from __future__ import annotations

import math
from typing import Any

from laconic.pack.kinds import Kind, Part, Shape
from laconic.pack.kinds.pieces import Pieces, decode_pieces, encode_pieces, get_pieces, put_pieces
from laconic.records.element_types import element_type
from laconic.records.typed import ExactTensor
from laconic.varint import Reader, Writer


class Exact(Kind):
    """Fields: type, elements of a chunk, chunks. No parts."""

    code = 4
    name = "exact"
    record = ExactTensor
    part_names = ()
    without_graph = True

    def put(self, out: Writer, tensor: ExactTensor) -> None:
        """Type and chunks."""
        kind = element_type(tensor.type)
        put_pieces(out, encode_pieces(tensor.data, kind, kind.floating))

    def get(self, source: Reader, shape: Shape) -> tuple[object, ...]:
        """Type and chunks."""
        return (get_pieces(source, math.prod(shape)),)

    def parts(self, tensor: ExactTensor) -> tuple[Part, ...]:
        """None."""
        return ()

    def steps(self, shape: Shape, fields: tuple[Any, ...], parts: tuple[Shape, ...]) -> int:
        """Proportional to the bytes, and a constant for each chunk."""
        pieces: Pieces = fields[0]
        return pieces.steps(math.prod(shape))

    def type_name(self, fields: tuple[Any, ...]) -> str:
        """The type in the fields."""
        name: str = fields[0].kind.name
        return name

    def item_bytes(self, fields: tuple[Any, ...]) -> int:
        """Bytes of an element."""
        pieces: Pieces = fields[0]
        return pieces.kind.bytes

    def coded_bytes(self, fields: tuple[Any, ...]) -> int:
        """Bytes of the chunks."""
        pieces: Pieces = fields[0]
        return pieces.bytes

    def build(self, name: str, shape: Shape, fields: tuple[Any, ...], parts: tuple[Part, ...]) -> ExactTensor:
        """The tensor."""
        return self.build_in(name, shape, fields, parts, None)

    def build_in(
        self,
        name: str,
        shape: Shape,
        fields: tuple[Any, ...],
        parts: tuple[Part, ...],
        threads: int | None,
    ) -> ExactTensor:
        """The tensor, decoded in so many threads."""
        pieces: Pieces = fields[0]
        data = decode_pieces(pieces, math.prod(shape), pieces.kind.floating, threads)
        return ExactTensor(name, shape, pieces.kind.name, data)


KIND = Exact()
