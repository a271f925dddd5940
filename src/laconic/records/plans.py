"""What a method knows of its weights, and what it decides to keep."""

from __future__ import annotations

from collections.abc import Mapping

from laconic.errors import InputError
from laconic.records.base import FloatArray, Record, record


@record
class WeightStats(Record):
    """How sure we are of each weight: posterior mean and variance, same shape, float32."""

    name: str
    mean: FloatArray
    variance: FloatArray
    __eq__ = object.__eq__  # arrays have no one answer
    __hash__ = object.__hash__


@record
class KeepPlan(Record):
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
