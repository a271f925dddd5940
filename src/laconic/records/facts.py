"""Shapes, types and operations of a network at one input shape, as cost estimates need them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field

from laconic.records.base import Attr, Record, record


@record
class ValueFacts(Record):
    """Shape and type of one value of a graph at one input shape.

    Attributes:
        shape: Its dimensions.
        dtype: NumPy's name of its element type.

    >>> ValueFacts((2, 3), "float32").entries
    6
    """

    shape: tuple[int, ...]
    dtype: str

    @property
    def entries(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)


@record
class TensorFacts(Record):
    """Bits and bytes of a stored tensor in memory and in products.

    Attributes:
        name: The tensor's name.
        shape: Its dimensions.
        nonzeros: Entries whose value is not zero.
        bits: Bits of one stored code.
        value_bits: Bits of the number that a code is in a product: ``bits`` for a uniform grid (q fits that
            many, sign included), 32 for a codebook (a look-up gives a float32).
        table_bytes: Bytes of the grid's step or the codebook's levels.

    >>> TensorFacts("w", (10, 10), nonzeros=7, bits=2, value_bits=2, table_bytes=4).entries
    100
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
    """One operation at one input shape.

    Attributes:
        op: Its name in FORMAT.md's table.
        inputs: References to its inputs, as in :class:`Node`.
        outputs: Ids of its outputs.
        attrs: All of its attributes, with defaults for those that the node leaves out.
        folded: Whether it depends on stored tensors alone, so that it runs once, when the network is loaded.
        rescaled: Numbers that integer arithmetic brings to another scale, by a multiplication and a shift.
        kind: How it is counted: one of ``laconic.cost``'s kinds.

    >>> OpFacts("relu", (0,), (1,), kind="pointwise").folded
    False
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

    Attributes:
        n_inputs: Number of inputs.
        values: All values, the inputs first.
        ops: The operations in execution order.
        outputs: Value ids of the outputs.
        tensors: The tensors that the operations read.
        file_bytes: Length of the file.
        original: The file's own tensors where ``tensors`` are derived from them for int8; else None.

    >>> value = ValueFacts((1, 3), "float32")
    >>> NetworkFacts(1, (value, value), (OpFacts("relu", (0,), (1,)),), (1,), (), file_bytes=20).outputs
    (1,)
    """

    n_inputs: int
    values: tuple[ValueFacts, ...]
    ops: tuple[OpFacts, ...]
    outputs: tuple[int, ...]
    tensors: tuple[TensorFacts, ...]
    file_bytes: int
    original: tuple[TensorFacts, ...] | None = None
