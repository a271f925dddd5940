"""A network's arithmetic, its inputs and its int8 ranges; and the content of one file."""

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
"""The default name of the free axis that all inputs share."""


@record
class ValueSpec(Record):
    """An input of a graph.

    Args:
        dtype: NumPy's name of its element type.
        shape: Its dimensions; None marks one that is free at run time.
        name: Its name; "" where it has none.
        axes: Names of the free dimensions in the shape's order: dimensions of one name have one size, in all
            inputs together. Without names, all free dimensions are the batch.

    >>> ValueSpec("int64", (None, None), "ids", ("batch", "time")).sizes
    ('batch', 'time')
    """

    dtype: str
    shape: tuple[int | None, ...]
    name: str = ""
    axes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.axes and len(self.axes) != self.shape.count(None):
            raise InputError(
                f"{self.axes} cannot name the free dimensions of shape {self.shape}. Cure: "
                f"{self.shape.count(None)} names, or none"
            )

    @property
    def sizes(self) -> tuple[int | str, ...]:
        """The shape, each free dimension by its name."""
        names = iter(self.axes)
        return tuple((next(names, BATCH) if self.axes else BATCH) if d is None else d for d in self.shape)


def tensor_index(ref: int) -> int:
    """The index of the tensor of a packed model for a negative reference (see :class:`Node`): -1 - ref.

    Args:
        ref: A reference below zero.

    Returns:
        The tensor's place in ``PackedModel.tensors``, from 0.

    >>> tensor_index(-1), tensor_index(-4)
    (0, 3)
    """
    return -1 - ref


def tensor_ref(index: int) -> int:
    """The reference by which a node reads a tensor of a packed model: the inverse of :func:`tensor_index`.

    Args:
        index: The tensor's place in ``PackedModel.tensors``, from 0.

    Returns:
        -1 - index.

    >>> tensor_ref(0), tensor_ref(3)
    (-1, -4)
    """
    return -1 - index


@record
class Node(Record):
    """One operation of a graph.

    Args:
        op: A name from FORMAT.md's table of operations.
        inputs: Value ids: 0..n-1 are the graph's inputs, then one id per node output in order; -1-k is tensor
            k of the packed model; None an absent optional input.
        attrs: The operation's constants by name.
        n_outputs: Number of its outputs.

    >>> Node("linear", (0, -1, -2)).read(["x"], ["weight", "bias"])
    ('x', 'weight', 'bias')
    """

    op: str
    inputs: tuple[int | None, ...]
    attrs: Mapping[str, Attr] = field(default_factory=dict)
    n_outputs: int = 1

    def read(self, values: Sequence[T], tensors: Sequence[T]) -> tuple[T | None, ...]:
        """The node's inputs: entries of ``values`` and ``tensors``, None for an absent input.

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

    Args:
        value: The value's id.
        scale: A float32 in 2^-64 .. 2^64, so that no product of scales leaves the floating-point range.
        zero_point: In -128..127, so that zero itself is representable.

    >>> ActivationRange(3, 0.5, -128).bounds
    (0.0, 127.5)
    """

    value: int
    scale: float
    zero_point: int

    def __post_init__(self) -> None:
        if not (2.0**-64 <= self.scale <= 2.0**64 and float(np.float32(self.scale)) == self.scale):
            raise InputError(
                f"the activation range of value {self.value} has scale {self.scale!r}; it must be a float32 "
                "in 2^-64 .. 2^64. Cure: scale=2**-7"
            )
        if not -128 <= self.zero_point <= 127:
            raise InputError(
                f"the activation range of value {self.value} has zero point {self.zero_point}; it must be in "
                "-128..127. Cure: zero_point=0"
            )

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest real number that the range can represent."""
        return self.scale * (-128 - self.zero_point), self.scale * (127 - self.zero_point)


@record
class Graph(Record):
    """A network's arithmetic in execution order.

    Args:
        inputs: Its inputs; their value ids are 0..n-1.
        nodes: Its operations.
        outputs: Value ids of its outputs.
        ranges: Values that are int8 when the network runs in int8, in rising order of their ids; without any
            it runs in float32 only.
        output_names: One name for each output, or none at all.
        keyed: Whether the network returns a dictionary with these names as keys.

    >>> graph = Graph((ValueSpec("float32", (None, 3)),), (Node("relu", (0,)),), (1,))
    >>> graph.input_names, graph.result_names, graph.free_axes
    (('input',), ('output',), ('batch',))
    """

    inputs: tuple[ValueSpec, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]
    ranges: tuple[ActivationRange, ...] = ()
    output_names: tuple[str, ...] = ()
    keyed: bool = False

    def numbered(self) -> Iterator[tuple[Node, range]]:
        """Each node with the ids of its outputs; the inputs have the first ids.

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
        """The names of the inputs; by default ``input``, or ``input_0`` ... of several."""
        return tuple(
            spec.name or default_name("input", k, len(self.inputs)) for k, spec in enumerate(self.inputs)
        )

    @property
    def result_names(self) -> tuple[str, ...]:
        """The names of the outputs; by default ``output``, or ``output_0`` ... of several."""
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
    """The name of an input or output that has none: the stem, numbered where there are several.

    Args:
        stem: "input" or "output".
        index: Its number, from 0.
        count: How many inputs or outputs there are.

    Returns:
        The name.

    >>> default_name("output", 0, 1), default_name("output", 1, 2)
    ('output', 'output_1')
    """
    return stem if count == 1 else f"{stem}_{index}"


@record
class PackedModel(Record):
    """The content of a .lac file.

    Args:
        tensors: In state-dict order; their names are unique.
        graph: None for a file of weights alone.
        aliases: Further state-dict names, each with the name under which shared weights are stored once.

    >>> from laconic.records import RawTensor
    >>> PackedModel((RawTensor("w", np.ones(2, np.float32)),), aliases={"tied": "w"}).tensor(-1).name
    'w'
    """

    tensors: tuple[Tensor, ...]
    graph: Graph | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)

    def tensor(self, ref: int) -> Tensor:
        """The tensor that a negative reference of the graph refers to."""
        return self.tensors[tensor_index(ref)]
