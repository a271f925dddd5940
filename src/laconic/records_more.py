"""Frozen records that not every file needs: a posterior, a range, a plan, a network's facts, what a run did.

They are public under ``laconic.records``, which imports them on first use: a process that only runs a file
has no need of them, and making a frozen dataclass takes a third of a millisecond.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from laconic.errors import InputError
from laconic.records import Attr, FloatArray


@dataclass(frozen=True, eq=False)
class WeightStats:
    """How sure we are of each weight: posterior mean and variance, same shape, float32."""

    name: str
    mean: FloatArray
    variance: FloatArray


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
    facts: Mapping[str, Any] = field(default_factory=dict)
