"""Codebooks of a learned mixture as candidates beside uniform grids (Ullrich et al. 2017, section 3).

A codebook for the whole network costs its levels once: later tensors refer to it. One for each layer costs
its levels per layer, and its levels are the means of the weights that take them, so that they are nearer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from laconic.errors import InputError
from laconic.quantize.codebook import on_levels
from laconic.quantize.components import Components, merge, most_responsible
from laconic.quantize.uniform import bfloat16
from laconic.records import FloatArray, IntArray, IntTensor, WeightStats

Masks = Mapping[str, npt.NDArray[np.bool_]]


@dataclass(frozen=True, eq=False)
class Book:
    """Weights on levels: the tensors by name, and what is told of them."""

    tensors: Mapping[str, IntTensor]
    facts: Mapping[str, Any]


Books = Callable[[Masks], Sequence[Book]]
"""From keep-masks to candidates; weights outside the masks are zero."""


def check_limits(limits: Sequence[float]) -> None:
    """Raises InputError unless there is a limit, and all are finite and at least 0."""
    if not limits or not all(0 <= v < np.inf for v in limits):
        raise InputError(
            f"merge_kl must be at least one number of nats from 0, got {tuple(limits)}. Cure: (1e-10, 0.5)"
        )


def mixture_books(
    stats: Mapping[str, WeightStats],
    components: Components,
    limits: Sequence[float],
    *,
    noisy: bool = False,
) -> Books:
    """Candidates: for each limit a codebook for the network and one for each layer.

    Args:
        stats: The weights.
        components: The mixture that was learned.
        limits: Nats below which components are merged; the first is that of the first candidate.
        noisy: Whether the weights' variances count in the responsibilities.

    Returns:
        A function of keep-masks. Kept weights take the levels of components that are not at zero.

    >>> stats = {"w": WeightStats("w", np.float32([0.0, 0.31, 0.5]), np.full(3, 0.01, np.float32))}
    >>> two = Components(np.array([0.0, 0.3]), np.array([0.01, 0.1]), np.array([0.9, 0.1]), zero=0)
    >>> shared, own = mixture_books(stats, two, (1e-10,))({"w": np.array([False, True, True])})
    >>> [round(v, 3) for v in own.tensors["w"].values().tolist()]
    [0.0, 0.404, 0.404]
    """
    check_limits(limits)

    def books(keeps: Masks) -> list[Book]:
        found: list[Book] = []
        seen: set[int] = set()
        for limit in limits:
            merged = merge(components, limit)
            if merged.means.size not in seen:
                seen.add(merged.means.size)
                found += _books(stats, keeps, _values_of(merged), limit, noisy)
        return found

    return books


def _values_of(components: Components) -> Components:
    """The components that are not at zero."""
    if components.zero is None or components.means.size == 1:
        return components
    others = np.arange(components.means.size) != components.zero
    parts = (components.means, components.stds, components.shares)
    return Components(*(part[others] for part in parts))


def _books(
    stats: Mapping[str, WeightStats], keeps: Masks, values: Components, limit: float, noisy: bool
) -> list[Book]:
    """The two codebooks of one set of components."""
    places = {
        n: np.where(keeps[n], most_responsible(s.mean, values, s.variance if noisy else None), -1)
        for n, s in stats.items()
    }
    used = np.unique(np.concatenate([p[p >= 0].ravel() for p in places.values()]))
    means = {int(j): float(values.means[j]) for j in used}
    own = {n: _centres(s.mean, places[n]) for n, s in stats.items()}
    told = {"merge_kl": limit, "levels": len(used)}
    made = []
    for kind, levels in (("network", dict.fromkeys(stats, means)), ("layer", own)):
        tensors = {n: _on_codebook(n, places[n], levels[n]) for n in stats}
        made.append(Book(tensors, {**told, "codebook": kind}))
    return made


def _centres(weights: FloatArray, places: IntArray) -> dict[int, float]:
    """By component, the mean of the weights that take it."""
    flat = places.ravel()
    held = flat >= 0
    counts = np.bincount(flat[held])
    sums = np.bincount(flat[held], weights=weights.ravel()[held])
    return {int(j): float(sums[j] / counts[j]) for j in np.flatnonzero(counts)}


def _on_codebook(name: str, places: IntArray, means: Mapping[int, float]) -> IntTensor:
    """Indices of components (-1: zero) on a codebook of rising levels with zero among them."""
    level_of = {j: _rounded(mean) for j, mean in means.items()}
    levels = sorted({0.0, *level_of.values()})
    table = np.zeros(max(level_of, default=-1) + 2, np.int32)  # the last entry serves index -1
    table[-1] = levels.index(0.0)
    for j, level in level_of.items():
        table[j] = levels.index(level)
    return on_levels(name, table[places], tuple(levels))


def _rounded(mean: float) -> float:
    """The nearest bfloat16, in which levels cost two bytes."""
    sign = -1.0 if mean < 0 else 1.0
    return sign * bfloat16(abs(mean)) if mean else 0.0
