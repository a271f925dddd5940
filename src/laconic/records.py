"""Frozen records that the rooms hand to each other (no torch, no behaviour beyond arithmetic).

``WeightStats`` carries a posterior to a decision, ``UniformGrid``/``Codebook`` and
``IntTensor``/``RawTensor`` carry a decision to the file, ``Graph`` carries a network's
arithmetic, ``PackedModel`` is everything a .lac file says, ``NetworkFacts`` what it comes to at one input
shape, ``RunRecord`` is what a run did.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from laconic.errors import InputError

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float32]
AnyArray = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class WeightStats:
    """How sure we are of each weight: posterior mean and variance, same shape, float32.

    ``zero_log_odds`` (optional, same shape, nats) is the method's evidence that a weight is zero,
    e.g. log alpha for a Gaussian posterior under a log-uniform prior.
    """

    name: str
    mean: FloatArray
    variance: FloatArray
    zero_log_odds: FloatArray | None = None


@dataclass(frozen=True)
class UniformGrid:
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
        values = np.multiply(integers.astype(np.float32), np.float32(self.step), dtype=np.float32)
        return np.asarray(values)  # a product of arrays without dimensions is a number


@dataclass(frozen=True)
class Codebook:
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


@dataclass(frozen=True)
class ValueSpec:
    """A graph input: numpy dtype name and shape; ``None`` marks a dimension free at run time."""

    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Node:
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


@dataclass(frozen=True)
class ActivationRange:
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


@dataclass(frozen=True)
class Graph:
    """A network's arithmetic in execution order; ``outputs`` are value ids.

    ``ranges`` says which values are int8 when the network runs in int8, in rising order of their ids;
    without any, the network is float32 alone.
    """

    inputs: tuple[ValueSpec, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]
    ranges: tuple[ActivationRange, ...] = ()


@dataclass(frozen=True)
class PackedModel:
    """Everything a .lac file says.

    ``graph`` is None for a weights-only file. ``tensors`` are in state-dict order; names are
    unique. ``aliases`` maps further state-dict names to the name under which shared weights are
    coded once.
    """

    tensors: tuple[Tensor, ...]
    graph: Graph | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ValueFacts:
    """Shape and type of one value of a graph at one input shape."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def entries(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class TensorFacts:
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


@dataclass(frozen=True)
class OpFacts:
    """One operation at one input shape: ``inputs`` as in :class:`Node`, ``outputs`` the values it makes.

    ``attrs`` are all of its attributes, those that the node leaves out with their defaults. ``folded`` marks
    an operation that depends on stored tensors alone, so that it runs once, when the network is loaded.
    ``rescaled`` is how many numbers integer arithmetic brings to another scale: a multiplication and a shift.
    """

    op: str
    inputs: tuple[int | None, ...]
    outputs: tuple[int, ...]
    attrs: Mapping[str, Attr | None] = field(default_factory=dict)
    folded: bool = False
    rescaled: int = 0


@dataclass(frozen=True)
class NetworkFacts:
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


@dataclass(frozen=True)
class SectionRow:
    """One row of ``inspect``: where ``bytes`` of the file went. The rows of a file add up to its length."""

    section: str
    name: str
    bytes: int
    shape: tuple[int, ...] = ()
    weights: int = 0
    nonzeros: int = 0
    levels: int = 0
    note: str = ""

    @property
    def bits_per_weight(self) -> float:
        """Bits of the file per weight of this row (0 when the row holds no weights)."""
        return 8.0 * self.bytes / self.weights if self.weights else 0.0


@dataclass(frozen=True)
class LayerRecord:
    """A tensor before and after: counts, levels, bits per weight and bytes in the file."""

    name: str
    shape: tuple[int, ...]
    weights: int
    nonzeros: int
    levels: int
    bytes_before: int
    bytes_after: int

    @property
    def bits_per_weight(self) -> float:
        """Bits of the file per weight."""
        return 8.0 * self.bytes_after / self.weights if self.weights else 0.0


@dataclass(frozen=True)
class KeepPlan:
    """Which units of which coupled groups stay: group name -> rising indices out of ``sizes[name]`` units.

    A group that is not named stays whole. One that keeps nothing takes its whole branch with it, which only
    some may (``Coupling.branches``). Equal plans compare equal.

    >>> KeepPlan({"conv1.weight:0": (0, 2)}, {"conv1.weight:0": 4}).removed("conv1.weight:0")
    (1, 3)
    """

    kept: Mapping[str, tuple[int, ...]]
    sizes: Mapping[str, int]

    def __post_init__(self) -> None:
        if set(self.kept) != set(self.sizes):
            odd = sorted(set(self.kept) ^ set(self.sizes))
            raise InputError(f"keep plan: kept and sizes must name the same groups, not so for {odd}")
        for name, kept in self.kept.items():
            size = self.sizes[name]
            if any(a >= b for a, b in zip(kept, kept[1:], strict=False)) or any(
                not 0 <= k < size for k in kept
            ):
                raise InputError(
                    f"keep plan: group {name!r} must keep rising indices below {size}, got {kept}"
                )

    def removed(self, name: str) -> tuple[int, ...]:
        """The units of a group that go."""
        stay = set(self.kept[name])
        return tuple(k for k in range(self.sizes[name]) if k not in stay)


@dataclass(frozen=True)
class RunRecord:
    """What a run did, as plain JSON-able data (see ``laconic.train.record`` for reading and writing)."""

    settings: Mapping[str, Any]
    seed: int
    versions: Mapping[str, str]
    layers: tuple[LayerRecord, ...]
    metrics: Mapping[str, float]
    file_bytes: int
    bytes_before: int
    notes: tuple[str, ...] = ()
