"""Posterior moments of weights, and plans of the units that pruning keeps."""

from __future__ import annotations

from collections.abc import Mapping

from laconic.errors import InputError
from laconic.records.base import FloatArray, Record, record


@record
class WeightStats(Record):
    """Posterior mean and variance of each weight of a tensor.

    Args:
        name: The tensor's name.
        mean: Float32, in the tensor's shape.
        variance: Float32, in the same shape.

    >>> import numpy as np
    >>> WeightStats("w", np.zeros(2, np.float32), np.ones(2, np.float32)).variance.tolist()
    [1.0, 1.0]
    """

    name: str
    mean: FloatArray
    variance: FloatArray
    __eq__ = object.__eq__  # comparing arrays gives no single bool
    __hash__ = object.__hash__


@record
class KeepPlan(Record):
    """Which units of which coupled groups stay; a group that is not named stays whole.

    Args:
        kept: For each group the units that stay, rising. A group that keeps nothing removes its whole branch,
            which only some allow (``Coupling.branches``).
        sizes: For each group the number of its units.

    Raises:
        InputError: The two name different groups, or units are out of order or range.

    >>> KeepPlan({"conv1.weight:0": (0, 2)}, {"conv1.weight:0": 4}).removed("conv1.weight:0")
    (1, 3)
    """

    kept: Mapping[str, tuple[int, ...]]
    sizes: Mapping[str, int]

    def __post_init__(self) -> None:
        if set(self.kept) != set(self.sizes):
            odd = sorted(set(self.kept) ^ set(self.sizes))
            raise InputError(
                f"keep plan: kept and sizes must name the same groups, not so for {odd}. Cure: both for each "
                "group"
            )
        for name, kept in self.kept.items():
            size = self.sizes[name]
            if any(a >= b for a, b in zip(kept, kept[1:], strict=False)) or any(
                not 0 <= k < size for k in kept
            ):
                raise InputError(
                    f"keep plan: group {name!r} must keep rising indices below {size}, got {kept}. Cure: "
                    f"indices in 0..{size - 1}, each once, in order"
                )

    def removed(self, name: str) -> tuple[int, ...]:
        """The units of a group that are removed."""
        stay = set(self.kept[name])
        return tuple(k for k in range(self.sizes[name]) if k not in stay)
