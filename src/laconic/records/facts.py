"""What a network and its tensors come to at one input shape."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field

from laconic.records.base import Attr, Record, record


@record
class ValueFacts(Record):
    """Shape and type of one value of a graph at one input shape."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def entries(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)


@record
class TensorFacts(Record):
    """What a stored tensor costs to keep and to multiply by.

    ``bits`` are those of one stored code, ``value_bits`` those of the number it stands for in a product: the
    same for a uniform grid (q fits that many bits, sign included), 32 for a codebook (a look-up gives a
    float32). ``table_bytes`` are the grid's step or the codebook's levels.
    """

    name: str
    shape: tuple[int, ...]
    nonzeros: int
    bits: int
    value_bits: int
    table_bytes: int = 0

    @property
    def entries(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)


@record
class OpFacts(Record):
    """One operation at one input shape: ``inputs`` as in :class:`Node`, ``outputs`` the values it makes.

    ``attrs`` are all of its attributes, those that the node leaves out with their defaults. ``folded`` marks
    an operation that depends on stored tensors alone, so that it runs once, when the network is loaded.
    ``rescaled`` is how many numbers integer arithmetic brings to another scale: a multiplication and a shift.
    ``kind`` says how the operation is counted: one of ``laconic.cost``'s kinds; any other is refused there.
    """

    op: str
    inputs: tuple[int | None, ...]
    outputs: tuple[int, ...]
    attrs: Mapping[str, Attr | None] = field(default_factory=dict)
    folded: bool = False
    rescaled: int = 0
    kind: str = ""


@record
class NetworkFacts(Record):
    """A network at one input shape; values are numbered as in :class:`Node`, the inputs first.

    ``tensors`` are those that the operations read. Where int8 derives them, ``original`` are the file's own.
    """

    n_inputs: int
    values: tuple[ValueFacts, ...]
    ops: tuple[OpFacts, ...]
    outputs: tuple[int, ...]
    tensors: tuple[TensorFacts, ...]
    file_bytes: int
    original: tuple[TensorFacts, ...] | None = None
