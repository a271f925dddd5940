"""A network's arithmetic, its inputs and its int8 ranges; and everything that one file says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import TypeVar

import numpy as np

from laconic.errors import InputError
from laconic.records.base import Attr, Record, record
from laconic.records.tensors import Tensor

T = TypeVar("T")
BATCH = "batch"
"""What the free axis is called that every input shares where nobody named it."""


@record
class ValueSpec(Record):
    """A graph input: numpy dtype name and shape; ``None`` marks a dimension free at run time.

    ``name`` is what the input is called ("" where nobody said). ``axes`` are the names of the free dimensions
    in the shape's order: dimensions of one name have one size, in all inputs together. Without them, all free
    dimensions are the batch.

    >>> ValueSpec("int64", (None, None), "ids", ("batch", "time")).sizes
    ('batch', 'time')
    """

    dtype: str
    shape: tuple[int | None, ...]
    name: str = ""
    axes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.axes and len(self.axes) != self.shape.count(None):
            raise InputError(f"{self.axes} cannot name the free dimensions of shape {self.shape}")

    @property
    def sizes(self) -> tuple[int | str, ...]:
        """The shape, each free dimension by its name."""
        names = iter(self.axes)
        return tuple((next(names, BATCH) if self.axes else BATCH) if d is None else d for d in self.shape)


def tensor_index(ref: int) -> int:
    """Which tensor of a packed model a node reads by a negative reference (see :class:`Node`): -1 - ref.

    >>> tensor_index(-1), tensor_index(-4)
    (0, 3)
    """
    return -1 - ref


@record
class Node(Record):
    """One operation.

    ``op`` is a name from the closed table of FORMAT.md (looked up by string only there).
    ``inputs`` are value ids: 0..n-1 are the graph's inputs, then one id per node output in order;
    a negative id -1-k is tensor k of the packed model; ``None`` marks an absent optional input.
    ``attrs`` are the operation's constants, by name. ``n_outputs`` is 1 but for e.g. LSTM.
    """

    op: str
    inputs: tuple[int | None, ...]
    attrs: Mapping[str, Attr] = field(default_factory=dict)
    n_outputs: int = 1

    def read(self, values: Sequence[T], tensors: Sequence[T]) -> tuple[T | None, ...]:
        """What the node reads: entries of ``values`` and ``tensors``, None for an absent input.

        >>> Node("linear", (1, -1, None)).read(["x", "relu"], ["weight"])
        ('relu', 'weight', None)
        """
        return tuple(
            None if ref is None else values[ref] if ref >= 0 else tensors[tensor_index(ref)]
            for ref in self.inputs
        )


@record
class ActivationRange(Record):
    """How one value of a graph becomes int8: ``real = scale * (q - zero_point)``, q in -128..127.

    ``value`` is the value's id. ``scale`` is a float32 in 2^-64 .. 2^64, so that no product of scales leaves
    the floating-point range; ``zero_point`` is in -128..127, so zero itself is always representable.

    >>> ActivationRange(3, 0.5, -128).bounds
    (0.0, 127.5)
    """

    value: int
    scale: float
    zero_point: int

    def __post_init__(self) -> None:
        if not (2.0**-64 <= self.scale <= 2.0**64 and float(np.float32(self.scale)) == self.scale):
            raise InputError(
                f"the activation range of value {self.value} has scale {self.scale!r}; "
                "it must be a float32 in 2^-64 .. 2^64"
            )
        if not -128 <= self.zero_point <= 127:
            raise InputError(
                f"the activation range of value {self.value} has zero point {self.zero_point}; "
                "it must be in -128..127"
            )

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest real number that the range can say."""
        return self.scale * (-128 - self.zero_point), self.scale * (127 - self.zero_point)


@record
class Graph(Record):
    """A network's arithmetic in execution order; ``outputs`` are value ids.

    ``ranges`` says which values are int8 when the network runs in int8, in rising order of their ids;
    without any, the network is float32 alone. ``output_names`` are one name for each output, or none at all;
    ``keyed`` says that the network returns a dictionary of these names.
    """

    inputs: tuple[ValueSpec, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]
    ranges: tuple[ActivationRange, ...] = ()
    output_names: tuple[str, ...] = ()
    keyed: bool = False

    def numbered(self) -> Iterator[tuple[Node, range]]:
        """Each node with the ids of the values that it makes; the inputs have the first ids.

        >>> nodes = (Node("relu", (0,)), Node("topk", (1,), {}, 2))
        >>> graph = Graph((ValueSpec("float32", (None, 3)),), nodes, (2,))
        >>> [(node.op, tuple(made)) for node, made in graph.numbered()]
        [('relu', (1,)), ('topk', (2, 3))]
        """
        first = len(self.inputs)
        for node in self.nodes:
            made = range(first, first + node.n_outputs)
            yield node, made
            first = made.stop

    @property
    def input_names(self) -> tuple[str, ...]:
        """What the inputs are called: ``input``, or ``input_0`` ... of several, where nobody said."""
        return tuple(
            spec.name or default_name("input", k, len(self.inputs)) for k, spec in enumerate(self.inputs)
        )

    @property
    def result_names(self) -> tuple[str, ...]:
        """What the outputs are called: ``output``, or ``output_0`` ... of several, where nobody said."""
        count = len(self.outputs)
        if len(self.output_names) == count:
            return self.output_names
        return tuple(default_name("output", k, count) for k in range(count))

    @property
    def free_axes(self) -> tuple[str, ...]:
        """The names of the free dimensions, each once, in the order in which the inputs have them."""
        sizes = (size for spec in self.inputs for size in spec.sizes)
        return tuple(dict.fromkeys(size for size in sizes if isinstance(size, str)))


def default_name(stem: str, index: int, count: int) -> str:
    """The name of an input or output that has none: the stem, numbered where there are several."""
    return stem if count == 1 else f"{stem}_{index}"


@record
class PackedModel(Record):
    """Everything a .lac file says.

    ``graph`` is None for a weights-only file. ``tensors`` are in state-dict order; names are
    unique. ``aliases`` maps further state-dict names to the name under which shared weights are
    coded once.
    """

    tensors: tuple[Tensor, ...]
    graph: Graph | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)

    def tensor(self, ref: int) -> Tensor:
        """The tensor that a negative value id of the graph stands for."""
        return self.tensors[tensor_index(ref)]
