"""Differences of bit patterns from the parent's tensor (FORMAT.md, "Other kinds", code 8)."""

from __future__ import annotations

import math
from typing import Any

from laconic.pack.kinds import Part, Shape
from laconic.pack.kinds.exact import Exact
from laconic.pack.kinds.pieces import Pieces, decode_pieces, encode_pieces, get_pieces, put_pieces
from laconic.pack.kinds.same import get_source, put_source
from laconic.records.children import ExactDifference
from laconic.records.element_types import element_type
from laconic.varint import Reader, Writer


class ExactDifferences(Exact):
    """Fields: type, elements of a chunk, chunks, the parent's tensor. No parts."""

    code = 8
    name = "exact difference"
    record = ExactDifference  # type: ignore[assignment]

    def put(self, out: Writer, tensor: ExactDifference) -> None:  # type: ignore[override]
        """Type, chunks, name."""
        put_pieces(out, encode_pieces(tensor.data, element_type(tensor.type), rotated=False))
        put_source(out, tensor)

    def get(self, source: Reader, shape: Shape) -> tuple[object, ...]:
        """Type, chunks, name."""
        return get_pieces(source, math.prod(shape)), get_source(source)

    def build_in(  # type: ignore[override]
        self,
        name: str,
        shape: Shape,
        fields: tuple[Any, ...],
        parts: tuple[Part, ...],
        threads: int | None,
    ) -> ExactDifference:
        """The tensor, decoded in so many threads."""
        pieces: Pieces = fields[0]
        data = decode_pieces(pieces, math.prod(shape), False, threads)
        return ExactDifference(name, shape, pieces.kind.name, fields[1] or name, data)


KIND = ExactDifferences()
