"""A row of the table of operations: ONNX form, shape, types, int8, channels and cost of one operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from laconic.errors import CorruptFileError
from laconic.pack.graph.ops import ints_of
from laconic.records import Node
from laconic.runtime.ops.shape_rules import Rule

if TYPE_CHECKING:
    from laconic.runtime.onnx_model.builder import Builder

Emitter = Callable[["Builder", Node, tuple[str, ...]], tuple[str, ...]]
"""Turns one node into ONNX nodes: builder, node, input names ('' when absent) -> output names."""

First = Literal["reals", "numbers", "any"]

ResultRule = Callable[[Node, Sequence[str]], tuple[str, ...]]
"""A node and its inputs' element types (float32 for an absent one) -> those of its outputs."""

RankRule = Callable[[Node, Sequence[int | None]], int | None]
"""A node and the ranks of the values that it reads -> its first output's; None where it is unknown."""

Int8 = Literal["layer", "join", "average", "move", "float"]
"""How integer arithmetic runs an operation.

"layer": on int8 weights. "join": its operands are brought to the result's range. "average": in the range of
its input. "move": each result is one of the inputs, or zero. "float": in float32.
"""

Channels = Literal["made", "added", "kept", "padded", "flattened", "averaged", "sliced", "mixed"]
"""What becomes of an image's channels of zeros (``int8/filling.py``); "mixed": the result depends on them."""

Folds = Literal["nothing", "norm", "activation"]
"""Whether integer arithmetic takes an operation into the layer before it."""

Cost = Literal[
    "view", "partial", "move", "pointwise", "reduction", "weighted", "transposed", "matmul",
    "einsum", "recurrent", "pooling", "normalisation",
    "softmax", "attention", "resampling", "log_sum", "search", "sampling", "scatter",
]  # fmt: skip
"""How ``laconic.cost`` counts an operation: each kind has a rule there (``cost/kinds.py``)."""


class Takes(NamedTuple):
    """The element types that an operation takes: those of ONNX, so that engines get no others.

    ``first``: of the first input. ``bools``: how many of the first inputs are bool. ``places``: which input
    holds indices. ``alike``: the inputs that have one type (None: all). ``scalar``: a second operand may be
    the node's own float32 number.
    """

    first: First = "any"
    bools: int = 0
    places: int | None = None
    alike: tuple[int, ...] | None = ()
    scalar: bool = False


class Op(NamedTuple):
    """One operation, a column for each part of the runtime that uses it; no column has a default."""

    form: Emitter
    shape: Rule
    result: ResultRule
    takes: Takes
    rank: RankRule
    int8: Int8 | Callable[[Node], Int8]
    folds: Folds
    channels: Channels
    cost: Cost


def plain(form: Emitter, shape: Rule, takes: Takes, cost: Cost) -> Op:
    """An operation that runs in float32 and gives the element type of its first input.

    Most operations are such rows; others replace a column: ``plain(...)._replace(int8="move")``.
    """
    return Op(form, shape, type_of_first, takes, unknown_rank, "float", "nothing", "mixed", cost)


def type_of_first(node: Node, inputs: Sequence[str]) -> tuple[str, ...]:
    """All outputs have the type of the first input."""
    return (inputs[0],) * node.n_outputs


def type_of_second(node: Node, inputs: Sequence[str]) -> tuple[str, ...]:
    """All outputs have the type of the second input: a table, or a value that ``where`` chooses."""
    return (inputs[1],) * node.n_outputs


def booleans(node: Node, inputs: Sequence[str]) -> tuple[str, ...]:
    """Comparisons and logic give bool."""
    return ("bool",) * node.n_outputs


def places(node: Node, inputs: Sequence[str]) -> tuple[str, ...]:
    """Indices and sizes are int64."""
    return ("int64",) * node.n_outputs


# Which ranks are known decides what is folded into layers, and so which values a calibrated file holds ranges
# for. So an operation with `unknown_rank` in the table must keep it.


def unknown_rank(node: Node, given: Sequence[int | None]) -> int | None:
    """The rank is not known from the graph alone."""
    return None


def rank_of_first(node: Node, given: Sequence[int | None]) -> int | None:
    """As many dimensions as the first value."""
    return given[0] if given else None


def wrong_type(node: Node, wanted: str, inputs: Sequence[str]) -> CorruptFileError:
    """The error for element types that an operation does not take."""
    return CorruptFileError(f"operation {node.op!r} {wanted.format(kinds=' and '.join(inputs))}")


def listed_axes(node: Node, name: str) -> int:
    """How many axes an attribute lists."""
    return len(ints_of(node, name))
