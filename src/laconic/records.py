"""Frozen records that the rooms hand to each other (no torch, no behaviour beyond arithmetic).

``WeightStats`` carries a posterior to a decision, ``UniformGrid``/``Codebook`` and
``IntTensor``/``RawTensor`` carry a decision to the file, ``Graph`` carries a network's
arithmetic, ``PackedModel`` is everything a .lac file says, ``NetworkFacts`` what it comes to at one input
shape, ``RunRecord`` is what a run did.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from laconic.errors import InputError

T = TypeVar("T")

if TYPE_CHECKING:
    import numpy.typing as npt

    from laconic.records_more import ActivationRange as ActivationRange
    from laconic.records_more import KeepPlan as KeepPlan
    from laconic.records_more import LayerRecord as LayerRecord
    from laconic.records_more import NetworkFacts as NetworkFacts
    from laconic.records_more import OpFacts as OpFacts
    from laconic.records_more import RunRecord as RunRecord
    from laconic.records_more import SectionRow as SectionRow
    from laconic.records_more import TensorFacts as TensorFacts
    from laconic.records_more import ValueFacts as ValueFacts
    from laconic.records_more import WeightStats as WeightStats

    IntArray = npt.NDArray[np.int32]
    FloatArray = npt.NDArray[np.float32]
    AnyArray = npt.NDArray[Any]
else:  # numpy.typing takes a millisecond to import
    IntArray = FloatArray = AnyArray = np.ndarray


class Record:
    """Text and comparison of the records below, field by field.

    ``dataclass`` would compile both for each of them, which takes a millisecond of each start.
    """

    __slots__ = ()

    def _values(self) -> tuple[Any, ...]:
        return tuple([getattr(self, one.name) for one in fields(self)])  # type: ignore[arg-type]

    def __repr__(self) -> str:
        said = zip(fields(self), self._values(), strict=True)  # type: ignore[arg-type]
        return f"{type(self).__qualname__}({', '.join(f'{one.name}={value!r}' for one, value in said)})"

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__ or not isinstance(other, Record):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())


@dataclass(frozen=True, eq=False, repr=False)
class UniformGrid(Record):
    """Values are ``float32(step) * float32(q)``: one IEEE single-precision multiply.

    ``step`` must be finite, positive and exactly representable in float32.
    A symmetric ternary layer {-a, 0, a} is ``UniformGrid(step=a)`` with q in {-1, 0, 1}.
    """

    step: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.step) and self.step > 0 and float(np.float32(self.step)) == self.step):
            raise InputError(f"grid step must be a positive float32, got {self.step!r}")

    def dequantize(self, integers: IntArray) -> FloatArray:
        """Integers -> float32 values, bit-exactly ``step * q``."""
        values = np.asarray(integers.astype(np.float32))
        values *= np.float32(self.step)
        return values


@dataclass(frozen=True, eq=False, repr=False)
class Codebook(Record):
    """Values are ``levels[q]``, q in 0..len(levels)-1; levels are float32, strictly increasing."""

    levels: tuple[float, ...]

    def __post_init__(self) -> None:
        exact = all(math.isfinite(v) and float(np.float32(v)) == v for v in self.levels)
        rising = all(a < b for a, b in zip(self.levels, self.levels[1:], strict=False))
        if not (self.levels and exact and rising):
            raise InputError(f"codebook levels must be rising finite float32 values, got {self.levels!r}")

    def dequantize(self, integers: IntArray) -> FloatArray:
        """Integers -> float32 values, one look-up each."""
        if integers.size and (int(integers.min()) < 0 or int(integers.max()) >= len(self.levels)):
            raise InputError(f"codebook of {len(self.levels)} levels met an index outside it")
        return np.asarray(np.asarray(self.levels, dtype=np.float32)[integers])


Grid = UniformGrid | Codebook


@dataclass(frozen=True, eq=False)
class IntTensor:
    """A tensor as integers on a grid. ``integers`` is a C-contiguous int32 array of any shape."""

    name: str
    integers: IntArray
    grid: Grid

    def values(self) -> FloatArray:
        """The float32 values that every decoder reproduces bit for bit."""
        return self.grid.dequantize(self.integers)

    def nonzeros(self) -> int:
        """Number of entries whose value is not zero."""
        if isinstance(self.grid, UniformGrid):  # no float32 step times an integer rounds to zero
            return int(np.count_nonzero(self.integers))
        return int(np.count_nonzero(self.values()))


@dataclass(frozen=True, eq=False)
class RawTensor:
    """A tensor stored as it is (float32, float16, int64, int32, uint8, bool), C-contiguous."""

    name: str
    array: AnyArray

    def values(self) -> AnyArray:
        """The stored array itself."""
        return self.array

    def nonzeros(self) -> int:
        """Number of entries that are not zero."""
        return int(np.count_nonzero(self.array))


Tensor = IntTensor | RawTensor
Attr = int | float | str | bool | tuple[int, ...]


BATCH = "batch"
"""What the free axis is called that every input shares where nobody named it."""


@dataclass(frozen=True, eq=False, repr=False)
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


@dataclass(frozen=True, eq=False, repr=False)
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
            None if ref is None else values[ref] if ref >= 0 else tensors[-1 - ref] for ref in self.inputs
        )


@dataclass(frozen=True, eq=False, repr=False)
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


@dataclass(frozen=True, eq=False, repr=False)
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
        return self.tensors[-1 - ref]


_MORE = (
    "ActivationRange",
    "KeepPlan",
    "LayerRecord",
    "NetworkFacts",
    "OpFacts",
    "RunRecord",
    "SectionRow",
    "TensorFacts",
    "ValueFacts",
    "WeightStats",
)

if not TYPE_CHECKING:  # a type checker sees the names above and no others

    def __getattr__(name: str) -> Any:
        """The records that running a file does not need (``records_more.py``), on first use (PEP 562)."""
        if name not in _MORE:
            raise AttributeError(f"module 'laconic.records' has no attribute {name!r}")
        return getattr(importlib.import_module("laconic.records_more"), name)
